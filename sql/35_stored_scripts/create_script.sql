create or replace function dbml.create_script(
    name        text,
    language    text,
    script      text,
    description text  default null,
    params      jsonb default '{}',
    tags        jsonb default '{}',
    workspace   text  default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table after checking what is written, and by whom.
as $$
declare
    home bigint := (dbml_channel.find_workspace(workspace, 'write')).id;
    caller constant text := dbml_channel.caller();
    former dbml._scripts;
    made integer;
begin
    if script is null or btrim(script) = '' then
        raise exception 'a script must have text, got %', coalesce(quote_literal(script), 'NULL') using errcode = 'ML009';
    elsif language is null or lower(language) not in ('python', 'r') then
        raise exception 'language must be python or r, got %', coalesce(quote_literal(language), 'NULL') using errcode = 'ML009';
    elsif jsonb_typeof(params) is distinct from 'object' or jsonb_typeof(tags) is distinct from 'object' then
        raise exception 'params and tags must be JSON objects' using errcode = 'ML009';
    elsif params @? '$.**."$secret"' then
        raise exception 'a stored script must not hold a secret' using errcode = 'ML009',
            hint = 'leave it out of the defaults: dbml.run_stored takes it, params => ''{"password": {"$secret": "..."}}''';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('dbml script ' || home || ' ' || coalesce(name, ''), 0));
    select * into former from dbml._scripts s where (s.workspace_id, s.name::text) = (home, create_script.name)
    order by s.version desc limit 1;
    if former.script_id is not null then
        perform dbml_channel._check_script_owner(former.name, former.created_by, caller, home);
    end if;
    insert into dbml._scripts (workspace_id, name, version, language, script, defaults, description, tags, created_by)
    values (home, create_script.name, coalesce(former.version, 0) + 1, lower(create_script.language), create_script.script,
            create_script.params, create_script.description, create_script.tags, caller)
    returning version into made;
    return made;
exception when check_violation or not_null_violation then
    raise exception 'a script''s name must have 1 to 255 characters and none of : @ /, got %', coalesce(quote_literal(name), 'NULL')
        using errcode = 'ML009';
end
$$;
comment on function dbml.create_script(text, text, text, text, jsonb, jsonb, text) is
'Keep a script under a name, as its next version; returns the version.

params are defaults: dbml.run_stored''s own params stand before them. Only who created a name may add versions
to it, and owners of the workspace. dbml.grant_script lets other roles run it.
Errors: ML009 a bad name, language, no text, or a default that is marked as a secret; 42501 the name is another role''s, or not a contributor.
Example: SELECT dbml.create_script(''add-one'', ''python'', $$OutputDataSet = InputDataSet.assign(y=InputDataSet.x + n)$$, params => ''{"n": 1}'');';

create or replace function dbml_channel._check_script_owner(name text, owner_ text, caller text, home bigint)
returns void
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: called by definers only, after they have asked for the right to write in the workspace.
as $$
begin
    if caller <> owner_ and not dbml_channel.may(home, 'own') then
        raise insufficient_privilege using message = format('script "%s" belongs to role %s', name, owner_),
            hint = 'choose another name, or ask its creator or an owner of the workspace';
    end if;
end
$$;
comment on function dbml_channel._check_script_owner(text, text, text, bigint) is 'Refuse who may not change a stored script.';

create or replace function dbml_channel._find_script(reference text, workspace bigint, caller text)
returns dbml._scripts
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables.  A script that the caller may not run is as good as none.
as $$
declare
    plain constant text := split_part(reference, ':', 1);
    mark constant text := substr(reference, length(plain) + 2);
    found_ dbml._scripts;
begin
    if mark <> '' and mark !~ '^[0-9]{1,9}$' then
        raise exception 'a script''s version must be a number, got "%"', mark using errcode = 'ML009',
            hint = 'scripts are ''name'' or ''name:3''';
    end if;
    select s.* into found_ from dbml._scripts s
    where s.workspace_id = workspace and s.name::text = plain and (mark = '' or s.version = nullif(mark, '')::integer)
      and (s.created_by = caller and dbml_channel.may(workspace, 'write')
           or dbml_channel.may(workspace, 'own')
           or exists (select from dbml._script_grants g
                      where (g.workspace_id, g.name::text) = (workspace, plain) and dbml_channel.is_grantee(caller, g.grantee)))
    order by s.version desc limit 1;
    if found_.script_id is null then
        raise exception 'there is no stored script "%" that role % may run', reference, caller
            using errcode = 'ML051', detail = jsonb_build_object('script', reference, 'role', caller),
                  hint = format('its creator can run: SELECT dbml.grant_script(%L, %L)', plain, caller);
    end if;
    return found_;
end
$$;
comment on function dbml_channel._find_script(text, bigint, text) is 'The stored script that a reference means, if the caller may run it.';

-- The one predicate of who may do what in a workspace.  Everything that reads or writes what belongs to one goes through
-- it: functions ask may or require, views and policies go through workspaces(), which is the same for all at once.
-- An owner may all, a contributor write and read, a reader read, a predictor score; an administrator is the owner of every workspace.

create or replace function dbml_channel.workspace_role(workspace_id bigint)
returns text
language sql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads the private table of grants, for the session's caller alone.
begin atomic
    select case when dbml_channel.is_administrator(dbml_channel.caller()) then 'owner'
        else (select g.privilege from dbml._workspace_grants g
              where g.workspace_id = workspace_role.workspace_id and dbml_channel.is_grantee(dbml_channel.caller(), g.grantee)
              order by array_position(array['owner', 'contributor', 'reader', 'predictor'], g.privilege) limit 1) end;
end;
comment on function dbml_channel.workspace_role(bigint) is
    'What the caller is in a workspace: owner, contributor, reader or predictor, the most that any grant gives; NULL for a stranger.';

create or replace function dbml_channel.may(workspace_id bigint, wanted text)
returns boolean
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan   -- planned anew each time it would take longer than all the rest of a prediction
-- Definer: reads private tables of grants, for the session's caller alone.
as $$
declare
    role constant text := dbml_channel.caller();
    enough constant text[] := case wanted when 'own' then '{owner}' when 'write' then '{owner,contributor}'
        when 'read' then '{owner,contributor,reader}' when 'predict' then '{owner,contributor,reader,predictor}'
        when 'use' then '{owner,contributor,reader,predictor}' end;
begin
    if enough is null then
        raise exception 'a right on a workspace must be use, predict, read, write or own, got %', coalesce(quote_literal(wanted), 'NULL')
            using errcode = 'ML009';
    end if;
    -- Every prediction asks this: what is the answer mostly is looked at first, by a query of its own.
    perform from dbml._workspace_grants g
    where g.workspace_id = may.workspace_id and g.privilege = any (enough) and dbml_channel.is_grantee(role, g.grantee) limit 1;
    if found then
        return true;
    elsif dbml_channel.is_administrator(role) then
        return true;
    elsif wanted = 'use' then   -- something in it, if not the whole: a model or a stored script
        return exists (select from dbml._model_grants g
                       where g.workspace_id = may.workspace_id and dbml_channel.is_grantee(role, g.grantee))
            or exists (select from dbml._script_grants g
                       where g.workspace_id = may.workspace_id and dbml_channel.is_grantee(role, g.grantee));
    end if;
    return false;
end
$$;
comment on function dbml_channel.may(bigint, text) is
    'Whether the caller may predict in, read, write or own a workspace, or at least use something that is in it.';

create or replace function dbml_channel.require(workspace_id bigint, wanted text)
returns void
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads the private table of workspaces for its name; a stranger does not learn it.
as $$
declare
    name text;
    needed constant text := case wanted when 'own' then 'owner' when 'write' then 'contributor' when 'read' then 'reader' else 'predictor' end;
begin
    if dbml_channel.may(workspace_id, wanted) then
        return;
    end if;
    select w.name into name from dbml._workspaces w where w.workspace_id = require.workspace_id;
    if name is null or name <> 'default' and not dbml_channel.may(workspace_id, 'use') then
        raise exception 'workspace % does not exist', workspace_id using errcode = 'ML050',
            detail = jsonb_build_object('workspace_id', workspace_id), hint = 'SELECT name FROM dbml.workspaces';
    end if;
    raise insufficient_privilege using
        message = format('role %s may not %s workspace "%s": it needs %s', dbml_channel.caller(),
                         case wanted when 'write' then 'write in' when 'own' then 'administer' when 'read' then 'read' else 'predict in' end,
                         name, needed),
        detail = jsonb_build_object('workspace', name, 'role', dbml_channel.caller(), 'needs', needed),
        hint = format('SELECT dbml.grant_workspace(%L, %L, %L)', name, dbml_channel.caller(), needed);
end
$$;
comment on function dbml_channel.require(bigint, text) is
    'Refuse a caller who may not read, write, own or use a workspace; to a stranger it does not exist.';

create or replace function dbml_channel.workspaces(wanted text)
returns setof bigint
language sql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables, for the session's caller alone.
rows 10
begin atomic
    -- What may() says of each, but asked once a statement: views compare with = any (array(select ...)).
    select w.workspace_id from dbml._workspaces w where (select dbml_channel.is_administrator(dbml_channel.caller()))
    union
    -- A run outlives the workspace that it was in, or that never came to be: rolled back, it is an administrator's to see.
    select o.id from (
        with recursive one(id) as (
            select min(r.workspace_id) from dbml._runs r having (select dbml_channel.is_administrator(dbml_channel.caller()))
            union all
            select (select min(r.workspace_id) from dbml._runs r where r.workspace_id > one.id) from one where one.id is not null)
        select one.id from one where one.id is not null) o
    union
    select g.workspace_id from dbml._workspace_grants g
    where array_position(array['own', 'write', 'read', 'predict'], workspaces.wanted)
            >= array_position(array['owner', 'contributor', 'reader', 'predictor'], g.privilege)
      and dbml_channel.is_grantee(dbml_channel.caller(), g.grantee);
end;
comment on function dbml_channel.workspaces(text) is 'The workspaces that the caller may predict in, read, write or own.';

create or replace function dbml_channel.find_workspace(workspace text, wanted text default 'read', out id bigint, out name text)
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads the private table of workspaces, by name.
as $$
declare
    named constant text := coalesce(workspace, nullif(current_setting('dbml.workspace', true), ''), 'default');
begin
    select w.workspace_id, w.name into id, find_workspace.name from dbml._workspaces w where w.name = named;
    -- That there is a workspace "default" everybody knows.
    if id is null or named <> 'default' and not dbml_channel.may(id, 'use') then
        raise exception 'workspace "%" does not exist', named
            using errcode = 'ML050', detail = jsonb_build_object('workspace', named),
                  hint = format('SELECT dbml.create_workspace(%L)', named);
    end if;
    if named <> 'default' or wanted <> 'use' then
        perform dbml_channel.require(id, wanted);
    end if;
end
$$;
comment on function dbml_channel.find_workspace(text, text) is
    'The workspace of a call: its argument, else SET dbml.workspace, else "default"; the caller must have a right to it.';

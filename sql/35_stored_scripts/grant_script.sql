create or replace function dbml.grant_script(name text, role text, workspace text default null)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table, and grants on functions that belong to the owner.
as $$
declare
    home bigint := (dbml_channel.find_workspace(workspace, 'write')).id;
begin
    perform dbml_channel._check_script(name, home);
    if role is null or to_regrole(quote_ident(role)) is null then
        raise exception 'role "%" does not exist', role using errcode = 'undefined_object';
    end if;
    insert into dbml._script_grants (workspace_id, name, grantee, granted_by)
    values (home, grant_script.name, role, dbml_channel.caller())
    on conflict do nothing;
    perform dbml_channel._grant_uses(role, 'stored');
end
$$;
comment on function dbml.grant_script(text, text, text) is
'Let a role run a stored script, whatever its version, with dbml.run_stored, and no other script.

The script''s creator and owners of the workspace may grant. Members of the role have the right too.
Errors: ML051 no such script; 42501 it is another role''s; 42704 no such role.
Example: SELECT dbml.create_script(''add-one'', ''python'', $$OutputDataSet = InputDataSet.assign(y=InputDataSet.x + 1)$$);
    SELECT dbml.grant_script(''add-one'', ''pg_monitor'');';

create or replace function dbml_channel._check_script(reference text, home bigint)
returns void
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads a private table.
as $$
declare
    owner_ text := (select s.created_by from dbml._scripts s where s.workspace_id = home and s.name::text = reference
                    order by s.version desc limit 1);
begin
    if owner_ is null then
        raise exception 'there is no stored script "%"', reference using errcode = 'ML051',
            detail = jsonb_build_object('script', reference), hint = 'SELECT name, version FROM dbml.scripts';
    end if;
    perform dbml_channel._check_script_owner(reference, owner_, dbml_channel.caller(), home);
end
$$;
comment on function dbml_channel._check_script(text, bigint) is 'Refuse a stored script that is not there, or is not the caller''s to change.';

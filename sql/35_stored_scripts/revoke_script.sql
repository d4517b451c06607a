create or replace function dbml.revoke_script(name text, role text, workspace text default null)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    home bigint := (dbml_channel.find_workspace(workspace, 'write')).id;
begin
    perform dbml_channel._check_script(name, home);
    delete from dbml._script_grants g where (g.workspace_id, g.name::text, g.grantee) = (home, revoke_script.name, role);
    return found;
end
$$;
comment on function dbml.revoke_script(text, text, text) is
'Take back the right that dbml.grant_script gave; returns whether the role had it.

Errors: as dbml.grant_script.
Example: SELECT dbml.create_script(''add-one'', ''python'', $$OutputDataSet = InputDataSet.assign(y=InputDataSet.x + 1)$$);
    SELECT dbml.revoke_script(''add-one'', ''pg_monitor'');';

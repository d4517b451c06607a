create or replace function dbml.revoke_workspace(workspace text, role text)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table, for owners of the workspace.
as $$
declare
    home bigint := (dbml_channel.find_workspace(workspace, 'own')).id;
begin
    delete from dbml._workspace_grants g where (g.workspace_id, g.grantee) = (home, revoke_workspace.role);
    return found;
end
$$;
comment on function dbml.revoke_workspace(text, text) is
'Take back what dbml.grant_workspace gave to a role; returns whether it had anything. What its groups have it keeps.

Errors: 42501 not an owner of the workspace; ML050 no such workspace.
Example: SELECT dbml.create_workspace(''shared-work'', exist_ok => true);
    SELECT dbml.grant_workspace(''shared-work'', ''pg_monitor'', ''reader'');
    SELECT dbml.revoke_workspace(''shared-work'', ''pg_monitor'');';

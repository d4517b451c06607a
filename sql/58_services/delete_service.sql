create or replace function dbml.delete_service(service text, workspace text default null)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    home record;
begin
    home := dbml_channel.find_workspace(workspace, 'write');
    delete from dbml._services s where s.workspace_id = home.id and s.name = delete_service.service;
    return found;
end
$$;
comment on function dbml.delete_service(text, text) is
'Delete a service; returns whether it was there.

What serves it answers what it has begun, and ends.
Errors: ML050 no such workspace.
Example: SELECT dbml.delete_service(''no-such-service'');';

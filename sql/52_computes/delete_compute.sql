create or replace function dbml.delete_compute(name text, workspace text default null)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    home record;
begin
    home := dbml_channel.find_workspace(workspace, 'write');
    delete from dbml._computes c where c.workspace_id = home.id and c.name = delete_compute.name;
    return found;
end
$$;
comment on function dbml.delete_compute(text, text) is
'Forget the name of a compute; returns whether it was there.

Errors: ML050 no such workspace.
Example: SELECT dbml.delete_compute(''cpu-cluster'');';

create or replace function dbml.delete_script(name text, workspace text default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables.
as $$
declare
    home bigint := (dbml_channel.find_workspace(workspace, 'write')).id;
    gone integer;
begin
    perform dbml_channel._check_script(name, home);
    delete from dbml._script_grants g where (g.workspace_id, g.name::text) = (home, delete_script.name);
    delete from dbml._scripts s where (s.workspace_id, s.name::text) = (home, delete_script.name);
    get diagnostics gone = row_count;
    return gone;
end
$$;
comment on function dbml.delete_script(text, text) is
'Delete a stored script with all its versions and grants; returns the number of versions. Its runs stay in dbml.runs.

Errors: as dbml.grant_script.
Example: SELECT dbml.create_script(''add-one'', ''python'', $$OutputDataSet = InputDataSet.assign(y=InputDataSet.x + 1)$$);
    SELECT dbml.delete_script(''add-one'');';

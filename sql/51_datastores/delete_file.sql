create or replace function dbml.delete_file(path text, workspace text default null)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables.
as $$
declare
    plain constant text := dbml_channel._plain_path(path);
    home record;
    gone bytea;
begin
    home := dbml_channel.find_workspace(workspace, 'write');
    delete from dbml._files f where f.workspace_id = home.id and f.path = plain collate "C" returning f.digest into gone;
    if gone is null then
        return false;
    end if;
    perform dbml._free_blob(gone);
    return true;
end
$$;
comment on function dbml.delete_file(text, text) is
'Delete a file of the workspace''s default datastore; returns whether there was one.

Its bytes stay as long as a version of a dataset, a model or a run holds them.
Errors: ML009 a bad path; ML050 no such workspace.
Example: BEGIN; SELECT dbml.write_file(''a.txt'', ''hello''); SELECT dbml.delete_file(''a.txt''); ROLLBACK;';

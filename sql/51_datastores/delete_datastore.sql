create or replace function dbml.delete_datastore(name text, workspace text default null)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    home record;
begin
    if name = 'workspaceblobstore' then
        raise exception 'workspaceblobstore is the database itself, and stays' using errcode = 'ML009',
            hint = 'dbml.delete_file deletes a file of it';
    end if;
    home := dbml_channel.find_workspace(workspace, 'write');
    delete from dbml._datastores d where d.workspace_id = home.id and d.name = delete_datastore.name;
    if not found then
        raise exception 'datastore "%" is not in workspace "%"', name, home.name using errcode = 'ML072',
            detail = jsonb_build_object('datastore', name, 'workspace', home.name), hint = 'SELECT name FROM dbml.datastores';
    end if;
    return true;
end
$$;
comment on function dbml.delete_datastore(text, text) is
'Forget a registered datastore; its files stay where they are.

Errors: ML072 no such datastore; ML009 it is the default one of every workspace.
Example: BEGIN; SELECT dbml.register_datastore(''d'', ''local'', ''/data''); SELECT dbml.delete_datastore(''d''); ROLLBACK;';

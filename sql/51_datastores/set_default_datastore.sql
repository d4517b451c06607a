create or replace function dbml.set_default_datastore(name text, workspace text default null)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    home record;
begin
    home := dbml_channel.find_workspace(workspace, 'own');
    if name is distinct from 'workspaceblobstore'
       and not exists (select from dbml._datastores d where d.workspace_id = home.id and d.name = set_default_datastore.name) then
        raise exception 'datastore "%" is not in workspace "%"', name, home.name using errcode = 'ML072',
            detail = jsonb_build_object('datastore', name, 'workspace', home.name), hint = 'SELECT name FROM dbml.datastores';
    end if;
    update dbml._datastores d set is_default = false where d.workspace_id = home.id and d.is_default and d.name <> set_default_datastore.name;
    update dbml._datastores d set is_default = true where d.workspace_id = home.id and d.name = set_default_datastore.name and not d.is_default;
end
$$;
comment on function dbml.set_default_datastore(text, text) is
'Let a datastore be the one that the Python side takes where none is named; workspaceblobstore, the database, is it at first.

Errors: ML072 no such datastore.
Example: SELECT dbml.set_default_datastore(''workspaceblobstore'');';

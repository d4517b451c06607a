create or replace function dbml.delete_dataset(dataset text, workspace text default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables.
as $$
declare
    gone record;
    held bytea[];
begin
    gone := dbml_channel.find_dataset(dataset, workspace, 'write');
    select array_agg(distinct f.digest) into held from dbml._dataset_files f where f.dataset_id = gone.dataset_id;
    delete from dbml._datasets d where d.dataset_id = gone.dataset_id;
    perform dbml._free_blob(digest) from unnest(held) digest;
    return gone.version;
end
$$;
comment on function dbml.delete_dataset(text, text) is
'Delete one version of a dataset, and the bytes that it alone held; returns the version that went.

dataset: ''name'' means the latest version. Tables, and files in a datastore, stay. Runs keep the name of what they used.
Errors: ML070 no such dataset.
Example: BEGIN; SELECT dbml.register_dataset(''i'', ''table'', ''{"table": "demo.iris"}''); SELECT dbml.delete_dataset(''i''); ROLLBACK;';

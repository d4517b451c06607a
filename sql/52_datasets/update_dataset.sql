create or replace function dbml.update_dataset(
    dataset     text,
    description text  default null,
    tags        jsonb default null,
    workspace   text  default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    wanted record;
begin
    if jsonb_typeof(tags) <> 'object' then
        raise exception 'tags must be a JSON object, got %', tags using errcode = 'ML009';
    end if;
    wanted := dbml_channel.find_dataset(dataset, workspace, 'write');
    update dbml._datasets d
    set description = coalesce(update_dataset.description, d.description), tags = coalesce(update_dataset.tags, d.tags)
    where d.dataset_id = wanted.dataset_id;
    return wanted.version;
end
$$;
comment on function dbml.update_dataset(text, text, jsonb, text) is
'Give a version of a dataset another description or other tags; returns the version.

NULL leaves what is there. tags takes the place of the former ones.
Errors: ML070 no such dataset; ML009 tags that are no object.
Example: BEGIN; SELECT dbml.register_dataset(''i'', ''table'', ''{"table": "demo.iris"}'');
    SELECT dbml.update_dataset(''i'', ''150 flowers''); ROLLBACK;';

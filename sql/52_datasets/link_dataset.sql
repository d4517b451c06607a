create or replace function dbml.link_dataset(run_id uuid, dataset text, name text, workspace text default null)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table, for a run and a dataset of one workspace.
as $$
declare
    used record;
begin
    if name is null or name = '' then
        raise exception 'name must say what the run calls the dataset, got %', coalesce(quote_literal(name), 'NULL') using errcode = 'ML009';
    end if;
    used := dbml_channel.find_dataset(dataset, workspace, 'write');
    if not exists (select from dbml._runs r where r.run_id = link_dataset.run_id and r.workspace_id = used.workspace_id) then
        raise exception 'run % is not in workspace "%"', coalesce(run_id::text, 'NULL'), used.workspace_name
            using errcode = 'ML052', hint = 'SELECT run_id FROM dbml.runs';
    end if;
    insert into dbml._run_datasets (run_id, dataset_id, workspace_id, dataset, name_in_run)
    values (run_id, used.dataset_id, used.workspace_id, used.name || ':' || used.version, name)
    on conflict do nothing;
end
$$;
comment on function dbml.link_dataset(uuid, text, text, text) is
'Record that a run used a version of a dataset, under the name that the run has for it.

Inputs of run_script that name a dataset are recorded without it. The records: dbml.run_datasets.
Errors: ML070 no such dataset; ML052 no such run in the workspace; ML009 no name.
Example: BEGIN; SELECT dbml.register_dataset(''i'', ''table'', ''{"table": "demo.iris"}'');
    SELECT dbml.link_dataset(run_id, ''i'', ''train'') FROM dbml.runs WHERE workspace = ''default'' LIMIT 1; ROLLBACK;';

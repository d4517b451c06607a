create or replace view dbml.run_datasets as
select l.run_id, w.name as workspace, l.dataset, l.dataset_id, l.name_in_run, l.linked_at, l.direction
from dbml._run_datasets l join dbml._workspaces w using (workspace_id)
where l.workspace_id = any (array(select dbml_channel.workspaces('read')))
union all
-- Of scripts that were given a dataset as an input, the worker's record says so.
select r.run_id, w.name, i.value ->> 'dataset', (i.value ->> 'dataset_id')::bigint, i.value ->> 'name', r.started_at, 'input'
from dbml._runs r join dbml._workspaces w using (workspace_id)
     cross join lateral jsonb_array_elements(case when jsonb_typeof(r.inputs) = 'array' then r.inputs else '[]' end) i(value)
where r.workspace_id = any (array(select dbml_channel.workspaces('read'))) and jsonb_typeof(i.value) = 'object' and i.value ? 'dataset_id';
comment on view dbml.run_datasets is 'Which run used which version of a dataset, as an input of its script or by dbml.link_dataset, and which it wrote.';
comment on column dbml.run_datasets.dataset is 'The dataset, as name:3; it stays when the version is deleted.';
comment on column dbml.run_datasets.name_in_run is 'What the run calls it.';
comment on column dbml.run_datasets.linked_at is 'When that was recorded.';
comment on column dbml.run_datasets.direction is 'input: the run used it; output: the run wrote it.';

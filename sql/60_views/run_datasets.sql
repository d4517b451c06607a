create or replace view dbml.run_datasets as
select l.run_id, w.name as workspace, l.dataset, l.dataset_id, l.name_in_run, l.linked_at
from dbml._run_datasets l join dbml._workspaces w using (workspace_id)
where l.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.run_datasets is 'Which run used which version of a dataset.';
comment on column dbml.run_datasets.dataset is 'The dataset, as name:3; it stays when the version is deleted.';
comment on column dbml.run_datasets.name_in_run is 'What the run calls it.';

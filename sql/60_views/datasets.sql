create or replace view dbml.datasets as
select d.dataset_id, w.name as workspace, d.name, d.version, d.kind, d.definition, d.description, d.tags,
       d.created_at, d.created_by
from dbml._datasets d join dbml._workspaces w using (workspace_id)
where w.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.datasets is 'Datasets by name and version, each defined by a table, a query or files.';

create or replace view dbml.datasets as
select d.dataset_id, w.name as workspace, d.name, d.version, d.kind, d.definition, d.description, d.tags,
       d.created_at, d.created_by, d.schema,
       d.version = max(d.version) over (partition by d.workspace_id, d.name) as is_latest,
       (select count(*) from dbml._dataset_files f where f.dataset_id = d.dataset_id) as files
from dbml._datasets d join dbml._workspaces w using (workspace_id)
where w.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.datasets is 'Datasets by name and version, each defined by a table, a query or files.';
comment on column dbml.datasets.schema is 'Names and types of the columns when it was registered; NULL where nobody looked.';
comment on column dbml.datasets.is_latest is 'Whether it is the newest version, the one that the name alone means.';
comment on column dbml.datasets.files is 'Files of the default datastore whose bytes the version keeps; dbml.dataset_files lists them.';

create or replace view dbml.dataset_files as
select f.dataset_id, w.name as workspace, d.name as dataset, d.version, f.path, b.size as size_bytes, encode(f.digest, 'hex') as digest
from dbml._dataset_files f join dbml._datasets d using (dataset_id) join dbml._workspaces w on w.workspace_id = f.workspace_id
     join dbml._blobs b on b.digest = f.digest
where f.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.dataset_files is 'The files that versions of datasets keep, as they were when they were registered.';

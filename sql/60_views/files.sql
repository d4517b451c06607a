create or replace view dbml.files as
select w.name as workspace, f.path, b.size as size_bytes, encode(f.digest, 'hex') as digest, f.created_at, f.created_by
from dbml._files f join dbml._workspaces w using (workspace_id) join dbml._blobs b using (digest)
where f.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.files is 'Files of the default datastore, workspaceblobstore. The bytes: dbml.read_file(path).';
comment on column dbml.files.created_at is 'When it was written last.';

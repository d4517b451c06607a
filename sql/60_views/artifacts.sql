create or replace view dbml.artifacts as
select a.run_id, r.workspace, r.experiment, a.name, a.kind, a.content_type, encode(a.digest, 'hex') as digest,
       b.size as size_bytes, a.created_at
from dbml._artifacts a join dbml._runs r using (run_id) join dbml._blobs b using (digest)
where r.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.artifacts is 'Files, images and tables that runs kept. The bytes: dbml.artifact_bytes(run_id, name).';

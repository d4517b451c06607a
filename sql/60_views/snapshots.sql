create or replace view dbml.snapshots as
select w.name as workspace, encode(s.digest, 'hex') as snapshot, b.size as size_bytes, s.created_at, s.created_by
from dbml._snapshots s join dbml._workspaces w using (workspace_id) join dbml._blobs b using (digest)
where s.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.snapshots is 'The files of submitted scripts, a row a snapshot. The bytes, a tar archive: dbml.snapshot_bytes(snapshot).';
comment on column dbml.snapshots.snapshot is 'SHA-256 of the bytes, in hex, as in dbml.runs.';

create or replace view dbml.model_files as
select w.name as workspace, m.name, m.version, f.path, encode(f.digest, 'hex') as digest, b.size as size_bytes, m.created_at
from dbml._model_files f join dbml._models m using (model_id) join dbml._workspaces w using (workspace_id)
     join dbml._blobs b on b.digest = f.digest
where m.workspace_id = any (array(select dbml_channel.workspaces('read')))
   or (m.workspace_id, m.name::text) in (select g.workspace_id, g.name from dbml_channel.readable_models() g);
comment on view dbml.model_files is 'Files of models that were registered from files. The bytes: dbml.model_part(model, part, path).';

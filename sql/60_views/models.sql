create or replace view dbml.models as
select m.model_id, w.name as workspace, m.name, m.version,
       array(select a.alias::text from dbml._model_aliases a
             where (a.workspace_id, a.name, a.version) = (m.workspace_id, m.name, m.version) order by a.alias) as aliases,
       m.format, m.framework, m.framework_version, m.signature, m.description, m.tags, m.properties,
       encode(m.digest, 'hex') as digest, b.size as size_bytes, m.run_id, m.created_at, m.created_by,
       e.name::text || ':' || e.version as environment, m.details
from dbml._models m join dbml._workspaces w using (workspace_id) join dbml._blobs b using (digest)
     left join dbml._environments e using (environment_id)
where m.workspace_id = any (array(select dbml_channel.workspaces('read')))
   or (m.workspace_id, m.name::text) in (select g.workspace_id, g.name from dbml_channel.readable_models() g);
comment on view dbml.models is 'Registered models, a row a version. The bytes: dbml.model_bytes(name).';
comment on column dbml.models.digest is 'SHA-256 of the bytes, in hex; the worker keeps loaded models by it.';
comment on column dbml.models.signature is 'What the model takes and gives: {"features": [{"name"}], "prediction": {"type"}, "classes": [...]}.';
comment on column dbml.models.environment is 'The environment that it is scored in; NULL is the worker''s own packages.';
comment on column dbml.models.run_id is 'The run that registered it, where a script did.';
comment on column dbml.models.format is 'What reads the bytes: pickle, safe (a skops file, whose types are audited before any is made), onnx or rds (R).';
comment on column dbml.models.details is 'What the program that registered it wants to remember: sample data, resources.';

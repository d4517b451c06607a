create or replace view dbml.certificates as
select w.name as workspace, m.name as model, m.version, c.engine, c.status, c.reason, c.rows_compared, c.rows_left, c.thresholds,
       c.thresholds_tried, c.max_absolute_error, c.max_relative_error, c.tolerance, c.server_version, c.dbml_version, c.packages,
       c.seconds, c.certified_at, c.maker
from dbml._certificates c join dbml._models m using (model_id) join dbml._workspaces w using (workspace_id)
where m.workspace_id = any (array(select dbml_channel.workspaces('read')))
   or (m.workspace_id, m.name::text) in (select r.workspace_id, r.name from dbml_channel.readable_models() r);
comment on view dbml.certificates is
    'What was proven of the compiled forms of models, a row a version and engine: certified, or refused, failed or stale and why.';
comment on column dbml.certificates.rows_compared is 'Probes on which the compiled form and the model itself answered.';
comment on column dbml.certificates.rows_left is 'Probes that the compiled form leaves to the model itself: missing values that it refuses, overflows.';
comment on column dbml.certificates.max_relative_error is 'Largest difference, relative to the answer or to the median answer, whichever is larger.';
comment on column dbml.certificates.maker is 'Of an ONNX form, what has made it: dbml or skl2onnx.';

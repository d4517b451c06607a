create or replace view dbml.metrics as
select m.run_id, r.workspace, r.experiment, m.name, m.step, m.value, m.logged_at, m.kind, m.data
from dbml._metrics m join dbml._runs r using (run_id)
where r.workspace_id = any (array(select dbml_channel.workspaces('read')))
order by m.run_id, m.ordinal;
comment on view dbml.metrics is 'What scripts and clients logged, a row a value, in the order of logging.';
comment on column dbml.metrics.value is 'The number, 1 or 0 for true and false; NULL where there is no single number.';
comment on column dbml.metrics.kind is 'scalar, list (a row an element), row, table or image (the artifact''s name).';
comment on column dbml.metrics.data is 'What is not a double precision: whole numbers and text as logged, rows and tables by column.';

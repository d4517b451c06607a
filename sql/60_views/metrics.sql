create or replace view dbml.metrics as
select m.run_id, r.workspace, r.experiment, m.name, m.step, m.value, m.logged_at
from dbml._metrics m join dbml._runs r using (run_id)
where r.workspace_id = any (array(select dbml_channel.workspaces('read')))
order by m.run_id, m.ordinal;
comment on view dbml.metrics is 'What scripts logged with run.log(name, value, step), a row a value, in the order of logging.';

create or replace view dbml.experiments as
select e.experiment_id, w.name as workspace, e.name, e.description, e.tags, e.created_at, e.created_by,
       (select count(*) from dbml._runs r where (r.workspace_id, r.experiment) = (e.workspace_id, e.name::text)) as runs,
       (select max(r.started_at) from dbml._runs r where (r.workspace_id, r.experiment) = (e.workspace_id, e.name::text)) as last_run_at
from dbml._experiments e join dbml._workspaces w using (workspace_id)
where w.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.experiments is 'Experiments: names under which runs are grouped. The argument experiment of run_script makes one.';

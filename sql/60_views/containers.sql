create or replace view dbml.containers as
select w.name as workspace, s.name as service, c.generation, c.kind, c.identity, c.node, c.started_at, c.ended_at, c.ended_by
from dbml._containers c join dbml._services s using (service_id) join dbml._workspaces w on w.workspace_id = c.workspace_id
where c.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.containers is 'What runs, or ran, for services: processes by their id, containers, deployments. The last twenty of each that ended.';

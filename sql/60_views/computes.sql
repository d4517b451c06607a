create or replace view dbml.computes as
select w.name as workspace, c.name, c.kind, c.settings, c.description, c.tags, c.created_at, c.created_by
from dbml._computes c join dbml._workspaces w using (workspace_id)
where c.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.computes is 'Names under which programs find the worker as a compute target. dbml.create_compute makes one.';

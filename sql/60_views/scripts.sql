create or replace view dbml.scripts as
select w.name as workspace, s.name, s.version, s.language, s.script, s.defaults as params, s.description, s.tags,
       array(select g.grantee from dbml._script_grants g
             where (g.workspace_id, g.name::text) = (s.workspace_id, s.name::text) order by g.grantee) as granted_to,
       s.created_at, s.created_by
from dbml._scripts s join dbml._workspaces w using (workspace_id)
where w.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.scripts is 'Stored scripts, a row a version. dbml.create_script makes them, dbml.run_stored runs them.';
comment on column dbml.scripts.params is 'Defaults of the parameters.';
comment on column dbml.scripts.granted_to is 'Roles that may run it, beside its creator and owners of the workspace.';

create or replace view dbml.environments as
select e.environment_id, w.name as workspace, e.name, e.version, e.python_version, e.format, e.spec, e.lock, e.lock_sha256,
       e.description, e.tags, e.properties, e.created_at, e.created_by, e.definition
from dbml._environments e join dbml._workspaces w using (workspace_id)
where w.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.environments is 'Environments, a row a version: what was asked for, and the lock that it was resolved to.';
comment on column dbml.environments.format is 'What spec is: requirements, conda or pyproject.';
comment on column dbml.environments.python_version is 'The Python version that it is locked for.';
comment on column dbml.environments.lock_sha256 is 'SHA-256 of the lock, in hex; dbml.runs names the lock by it.';
comment on column dbml.environments.properties is 'What the specification also said: a conda file''s channels, what was left out.';
comment on column dbml.environments.definition is 'What a client''s object says beyond the packages: environment variables, image.';

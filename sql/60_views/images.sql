create or replace view dbml.images as
select i.image_id, w.name as workspace, i.name, i.version,
       array(select m.name::text || ':' || m.version from dbml._image_models im join dbml._models m using (model_id)
             where im.image_id = i.image_id order by im.ordinal) as models,
       i.entry_script, e.name::text || ':' || e.version as environment, e.python_version, i.lock, i.digest,
       i.description, i.tags, i.properties, i.created_at, i.created_by
from dbml._images i join dbml._workspaces w using (workspace_id) join dbml._environments e using (environment_id)
where i.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.images is 'Images, a row a version: models, a score.py and a lock that are served together.';
comment on column dbml.images.models is 'Its models as name:version.';
comment on column dbml.images.entry_script is 'The file that has init() and run(data).';
comment on column dbml.images.environment is 'The environment that its lock is of.';
comment on column dbml.images.python_version is 'The Python version that it is locked for.';
comment on column dbml.images.lock is 'Every package with its version and hashes.';
comment on column dbml.images.digest is 'SHA-256 of all that goes in, in hex: the same image can be made again.';

create or replace view dbml.datastores as
select w.name as workspace, d.name::text as name, d.kind, d.url, d.options, d.credentials, d.is_default, d.description, d.tags,
       d.created_at, d.created_by
from dbml._datastores d join dbml._workspaces w using (workspace_id)
where d.workspace_id = any (array(select dbml_channel.workspaces('read')))
union all
select w.name, 'workspaceblobstore', 'database', null, '{}', '{}',
       not exists (select from dbml._datastores d where d.workspace_id = w.workspace_id and d.is_default),
       'the database itself', '{}', w.created_at, w.created_by
from dbml._workspaces w
where w.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.datastores is 'Where files are kept: the database itself, and what was registered with dbml.register_datastore.';
comment on column dbml.datastores.kind is 'database, local, s3, azure_blob or gcs.';
comment on column dbml.datastores.url is 'Where it is; NULL for the database itself.';
comment on column dbml.datastores.options is 'Options of the file system.';
comment on column dbml.datastores.credentials is 'Where each credential is found: a variable or a file, never the secret.';
comment on column dbml.datastores.is_default is 'Whether it is the one that Python takes where none is named.';

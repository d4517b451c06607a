create or replace view dbml.workspaces as
select w.workspace_id, w.name, w.subscription_id, w.resource_group, w.location, w.sku, w.description, w.tags,
       w.created_at, w.created_by, w.model_formats, w.model_types
from dbml._workspaces w
where w.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.workspaces is 'Workspaces: what keeps models, datasets, experiments and runs of one purpose together.';
comment on column dbml.workspaces.name is 'What SET dbml.workspace and the argument workspace take; "default" is there from the start.';
comment on column dbml.workspaces.model_formats is 'The formats of models that it takes, as dbml.set_model_policy has set them; NULL is any.';
comment on column dbml.workspaces.model_types is 'What its models may hold beside what is harmless by itself; NULL is anything in a pickle.';

-- That a service answers is its runner's word, which comes every few seconds.
create or replace view dbml.services as
select w.name as workspace, s.name, s.models, s.image, s.target, s.compute_type,
       case when s.state = 'Healthy' and s.seen_at < now() - interval '10 s' then 'Unhealthy' else s.state end as state,
       s.scoring_uri, regexp_replace(s.scoring_uri, '/score$', '/swagger.json') as swagger_uri, s.auth_enabled, s.error, s.log,
       s.generation, s.serving_generation, s.failed_generation, s.restarts, s.config, s.tags, s.properties, s.description,
       s.node, s.seen_at, s.created_at, s.created_by, s.updated_at
from dbml._services s join dbml._workspaces w using (workspace_id)
where s.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.services is 'Web services of models: what is wanted, what runs, and where it answers. dbml.deploy makes one.';
comment on column dbml.services.state is 'Transitioning, Unhealthy, Unschedulable, Failed or Healthy; Healthy is what was heard of in the last 10 seconds.';

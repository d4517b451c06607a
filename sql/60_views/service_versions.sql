create or replace view dbml.service_versions as
select w.name as workspace, s.name as service, v.generation,
       case when v.generation = s.generation then 'current' when v.generation = c.generation then 'candidate' else 'former' end as role,
       v.models, v.image, v.config, v.restores, v.created_at, v.created_by
from dbml._service_versions v join dbml._services s using (service_id) join dbml._workspaces w on w.workspace_id = v.workspace_id
left join dbml._service_candidates c on c.service_id = v.service_id
where v.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.service_versions is 'What each service was asked to serve, by generation: dbml.rollback_service goes back to one of them.';
comment on column dbml.service_versions.role is 'current, candidate or former.';

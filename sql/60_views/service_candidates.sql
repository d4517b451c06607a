create or replace view dbml.service_candidates as
select w.name as workspace, s.name as service, c.generation, v.models, v.image, c.traffic_percent, c.shadow,
       case when c.state = 'Healthy' and coalesce(s.seen_at < now() - interval '10 s', true) then 'Unhealthy' else c.state end as state,
       c.error, c.compared, c.differing, c.dropped, c.largest_difference, c.updated_at
from dbml._service_candidates c join dbml._service_versions v using (service_id, generation)
join dbml._services s using (service_id) join dbml._workspaces w on w.workspace_id = c.workspace_id
where c.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.service_candidates is 'The second versions that services try: their share of the requests, or what came of comparing them. dbml.set_candidate makes one.';
comment on column dbml.service_candidates.dropped is 'Requests that were not compared, because the candidate answers more slowly than they come.';

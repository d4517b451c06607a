create or replace view dbml.service_comparisons as
select w.name as workspace, s.name as service, c.generation, c.candidate, c.request_id, c.path, c.agrees, c.largest_difference,
       c.status, c.candidate_status, c.ms, c.candidate_ms, c.answer, c.candidate_answer, c.asked_at
from dbml._service_comparisons c join dbml._services s using (service_id) join dbml._workspaces w on w.workspace_id = c.workspace_id
where c.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.service_comparisons is 'What a service and its shadow answered to the same request: the last ten thousand of each service, those that differ before those that agree.';
comment on column dbml.service_comparisons.agrees is 'The same status, and the same JSON but for numbers that differ by 1e-9 of their size at most.';

create or replace function dbml.promote_candidate(service text, workspace text default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables.
as $$
declare
    known dbml._services;
    chosen dbml._service_versions;
    made integer;
begin
    known := dbml_channel._find_service(service, workspace, 'write');
    delete from dbml._service_candidates c using dbml._service_versions v
    where c.service_id = known.service_id and v.service_id = c.service_id and v.generation = c.generation
    returning v.* into chosen;
    if chosen.service_id is null then
        raise exception 'service "%" has no candidate to promote', service using errcode = 'ML009',
            hint = format('SELECT dbml.set_candidate(%L, model => ''...'', traffic_percent => 10)', service);
    end if;
    update dbml._services s
    set models = chosen.models, image = chosen.image, config = chosen.config, generation = s.generation + 1, error = null, updated_at = now()
    where s.service_id = known.service_id
    returning s.generation into made;
    return made;
end
$$;
comment on function dbml.promote_candidate(text, text) is
'Let a service''s candidate take over all requests, without one that fails; returns the new generation.

The former version answers until the new one does. dbml.rollback_service goes back to it.
Errors: ML009 the service has no candidate; ML080 no such service.
Example: BEGIN; SELECT dbml.deploy(''demo-diabetes'', ''my-service''); SELECT dbml.set_candidate(''my-service'', model => ''demo-diabetes''); SELECT dbml.promote_candidate(''my-service''); ROLLBACK;';

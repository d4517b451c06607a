create or replace function dbml.rollback_service(service text, generation integer default null, workspace text default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables.
as $$
declare
    known dbml._services;
    now_served dbml._service_versions;
    before dbml._service_versions;
    made integer;
begin
    known := dbml_channel._find_service(service, workspace, 'write');
    if rollback_service.generation is null then
        delete from dbml._service_candidates c where c.service_id = known.service_id;
        if found then
            return known.generation;
        end if;
    end if;
    select v.* into now_served from dbml._service_versions v where v.service_id = known.service_id and v.generation = known.generation;
    -- Another than what is served: to load that again would be no way back.
    select v.* into before from dbml._service_versions v
    where v.service_id = known.service_id
      and case when rollback_service.generation is null
          then v.role = 'current' and v.generation < coalesce(now_served.restores, now_served.generation)
               and (v.models, v.image, v.config) is distinct from (now_served.models, now_served.image, now_served.config)
          else v.generation = rollback_service.generation end
    order by v.generation desc limit 1;
    if before.service_id is null then
        raise exception 'service "%" has no %', service,
            coalesce('generation ' || rollback_service.generation, 'version before the one that it serves')
            using errcode = 'ML009', hint = format('SELECT generation, models, image FROM dbml.service_versions WHERE service = %L', service);
    end if;
    update dbml._services s
    set models = before.models, image = before.image, config = before.config, generation = s.generation + 1, error = null, updated_at = now()
    where s.service_id = known.service_id
    returning s.generation into made;
    update dbml._service_versions v set restores = coalesce(before.restores, before.generation)
    where v.service_id = known.service_id and v.generation = made;
    return made;
end
$$;
comment on function dbml.rollback_service(text, integer, text) is
'Go back, without a request that fails; returns the generation that serves from now on.

A service with a candidate loses that, and the current version answers everything. One without goes back to the last version
that differs from what it serves, or to the generation given, models, image and config, as a new generation; called again, to
the one before that. dbml.service_versions lists them.
Errors: ML009 nothing to go back to; ML080 no such service.
Example: BEGIN; SELECT dbml.deploy(''demo-diabetes'', ''my-service''); SELECT dbml.update_service(''my-service'', config => ''{"threads": 2}''); SELECT dbml.rollback_service(''my-service''); ROLLBACK;';

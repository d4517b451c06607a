create or replace function dbml.set_candidate(
    service         text,
    model           text             default null,
    image           text             default null,
    traffic_percent double precision default null,
    shadow          boolean          default null,
    config          jsonb            default null,
    workspace       text             default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables.
as $$
declare
    known dbml._services;
    former dbml._service_candidates;
    home text;
    wanted jsonb;
    served text[];
    made integer;
begin
    known := dbml_channel._find_service(service, workspace, 'write');
    if known.target not in ('process', 'docker', 'compose') then
        raise exception 'a service with a candidate must be a process, a container or a project of compose, got %', quote_literal(known.target)
            using errcode = 'ML030', hint = format('SELECT dbml.update_service(%L, model => %L)', service, coalesce(model, image));
    elsif not coalesce(traffic_percent, 0) between 0 and 100 then   -- NaN is not either
        raise exception 'traffic_percent must be 0 to 100, got %', traffic_percent using errcode = 'ML009';
    elsif shadow and traffic_percent > 0 then
        raise exception 'a shadow''s answers are not returned: traffic_percent must be 0 or NULL with it, got %', traffic_percent
            using errcode = 'ML009';
    end if;
    perform from dbml._services s where s.service_id = known.service_id for update;   -- one at a time
    select c.* into former from dbml._service_candidates c where c.service_id = known.service_id;
    if model is null and image is null and not coalesce(config ? 'models', false) then
        if former.service_id is null then
            raise exception 'a candidate must have a model or an image, got neither' using errcode = 'ML009',
                hint = 'SELECT name, version FROM dbml.models';
        elsif config is not null then
            raise exception 'a candidate''s config must come with its model or image, got %', config using errcode = 'ML009';
        end if;
        made := former.generation;
    else
        perform dbml_channel._check_service(coalesce(config, '{}'), '{}', '{}');
        select w.name into home from dbml._workspaces w where w.workspace_id = known.workspace_id;
        wanted := known.config - array['snapshot', 'entry_script', 'models'] || coalesce(config, '{}');
        served := dbml_channel._models_of_service(model, image, wanted, home);
        insert into dbml._service_versions (workspace_id, service_id, generation, role, models, image, config, created_by)
        select known.workspace_id, known.service_id, 1 + max(v.generation), 'candidate', served, set_candidate.image, wanted, dbml_channel.caller()
        from dbml._service_versions v where v.service_id = known.service_id
        returning generation into made;
    end if;
    insert into dbml._service_candidates as c (service_id, workspace_id, generation, traffic_percent, shadow)
    values (known.service_id, known.workspace_id, made, coalesce(traffic_percent, 0), coalesce(shadow, false))
    on conflict (service_id) do update
        set generation = made, updated_at = now(),
            shadow = coalesce(set_candidate.shadow, c.shadow and coalesce(set_candidate.traffic_percent, 0) = 0),
            traffic_percent = case when set_candidate.shadow then 0 else coalesce(set_candidate.traffic_percent, c.traffic_percent) end,
            state = case when c.generation = made then c.state else 'Transitioning' end,
            error = case when c.generation = made then c.error end,
            compared = case when c.generation = made then c.compared else 0 end,
            differing = case when c.generation = made then c.differing else 0 end,
            dropped = case when c.generation = made then c.dropped else 0 end,
            largest_difference = case when c.generation = made then c.largest_difference end;
    return made;
end
$$;
comment on function dbml.set_candidate(text, text, text, double precision, boolean, jsonb, text) is
'Serve a second version beside the one that answers, by a share of the requests or in its shadow; returns its generation.

traffic_percent: of the requests, exactly: 10 is every tenth. shadow: it gets a copy of each request, and its answers are compared
and written to dbml.service_comparisons, never returned. With neither it runs and is asked nothing. Called again without a
model or an image, it changes the share alone, at once. A candidate that dies or does not come up loses no request: the current
version answers. dbml.promote_candidate lets it take over, dbml.rollback_service ends it.
Errors: ML009 a share that is none, nothing to serve, or a config that is not valid; ML020 no such model; ML030 the service is in a cluster; ML080 no such service.
Example: BEGIN; SELECT dbml.deploy(''demo-diabetes'', ''my-service''); SELECT dbml.set_candidate(''my-service'', model => ''demo-diabetes'', traffic_percent => 10); ROLLBACK;';

create or replace function dbml_channel._note_candidate(known dbml._services, report jsonb)
returns jsonb
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables, for report_service.
as $$
declare
    said jsonb := report -> 'candidate';
begin
    if said is not null then
        update dbml._service_candidates c
        set state = coalesce(said ->> 'state', c.state), error = case when said ? 'error' then said ->> 'error' else c.error end,
            compared = c.compared + coalesce((said ->> 'compared')::bigint, 0),
            differing = c.differing + coalesce((said ->> 'differing')::bigint, 0),
            dropped = c.dropped + coalesce((said ->> 'dropped')::bigint, 0),
            largest_difference = greatest(c.largest_difference, (said ->> 'largest_difference')::double precision)
        where c.service_id = known.service_id and c.generation = (said ->> 'generation')::integer;
    end if;
    if report ? 'comparisons' then
        insert into dbml._service_comparisons (workspace_id, service_id, generation, candidate, request_id, path, agrees, largest_difference,
                                               status, candidate_status, ms, candidate_ms, answer, candidate_answer, asked_at)
        select known.workspace_id, known.service_id, e.generation, e.candidate, e.request_id, e.path, e.agrees, e.largest_difference,
               e.status, e.candidate_status, e.ms, e.candidate_ms, e.answer, e.candidate_answer, coalesce(e.asked_at, now())
        from jsonb_to_recordset(report -> 'comparisons') e(
            generation integer, candidate integer, request_id text, path text, agrees boolean, largest_difference double precision,
            status integer, candidate_status integer, ms double precision, candidate_ms double precision, answer text,
            candidate_answer text, asked_at timestamptz);
        delete from dbml._service_comparisons c where c.comparison_id in (
            select o.comparison_id from dbml._service_comparisons o where o.service_id = known.service_id
            order by o.comparison_id desc offset 10000);
    end if;
    return (select jsonb_build_object('generation', c.generation, 'traffic_percent', c.traffic_percent, 'shadow', c.shadow,
                                      'models', v.models, 'image', v.image, 'config', v.config)
            from dbml._service_candidates c join dbml._service_versions v using (service_id, generation)
            where c.service_id = known.service_id);
end
$$;
comment on function dbml_channel._note_candidate(dbml._services, jsonb) is
    'What a runner says of a service''s candidate, in turn for what is wanted of it; NULL where there is none.';

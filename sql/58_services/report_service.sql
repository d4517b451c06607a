create or replace function dbml_channel.report_service(service text, report jsonb, workspace text default null)
returns jsonb
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables.
as $$
declare
    known dbml._services;
    taken dbml._services;
    old constant interval := '10 s';
begin
    known := dbml_channel._find_service(service, workspace, 'write');
    if known.claim is distinct from report ->> 'claim' then
        -- Another runner's, unless that has not been heard of for long; how the service was is what that one said.
        update dbml._services s
        set claim = report ->> 'claim', node = report ->> 'node', seen_at = now(), state = 'Transitioning', error = null
        where s.service_id = known.service_id and (s.claim is null or s.seen_at < now() - old)
        returning s.* into taken;
        if taken.service_id is null then
            return jsonb_build_object('lost', true, 'node', known.node, 'seen_at', known.seen_at);
        end if;
        -- What the former one ran is gone with it, or this one says that it has it now.
        update dbml._containers c set ended_at = now(), ended_by = 'another runner took over'
        where c.service_id = known.service_id and c.ended_at is null;
    end if;
    if report - 'claim' - 'node' <> '{}' or known.seen_at < now() - old / 5 then
        update dbml._services s
        set state = coalesce(report ->> 'state', s.state), scoring_uri = coalesce(report ->> 'scoring_uri', s.scoring_uri),
            serving_generation = coalesce((report ->> 'serving_generation')::integer, s.serving_generation),
            failed_generation = coalesce((report ->> 'failed_generation')::integer, s.failed_generation),
            error = case when report ? 'error' then report ->> 'error' else s.error end,
            log = coalesce(report ->> 'log', s.log), restarts = s.restarts + coalesce((report ->> 'restarts')::integer, 0),
            seen_at = now(),
            claim = case when report ? 'release' then null else s.claim end,
            node = case when report ? 'release' then null else s.node end
        where s.service_id = known.service_id;
    end if;
    if report ? 'started' then
        insert into dbml._containers (workspace_id, service_id, generation, kind, identity, node)
        select known.workspace_id, known.service_id, e.generation, e.kind, e.identity, report ->> 'node'
        from jsonb_to_recordset(report -> 'started') e(generation integer, kind text, identity text);
        delete from dbml._containers c where c.container_id in (
            select o.container_id from dbml._containers o where o.service_id = known.service_id and o.ended_at is not null
            order by o.container_id desc offset 20);
    end if;
    if report ? 'ended' then
        update dbml._containers c set ended_at = now(), ended_by = e.ended_by
        from jsonb_to_recordset(report -> 'ended') e(identity text, ended_by text)
        where c.service_id = known.service_id and c.identity = e.identity and c.ended_at is null;
    end if;
    return jsonb_build_object('generation', known.generation, 'models', known.models, 'image', known.image, 'target', known.target,
                              'config', known.config, 'created_at', known.created_at, 'scoring_uri', known.scoring_uri, 'tags', known.tags,
                              'keys', case when known.auth_enabled then jsonb_build_array(known.primary_key, known.secondary_key) end,
                              'candidate', dbml_channel._note_candidate(known, report));
end
$$;
comment on function dbml_channel.report_service(text, jsonb, text) is
    'What a runner says of a service that it serves, in turn for what is wanted of it; {"lost": true} where another runner serves it.';

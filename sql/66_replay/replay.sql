create or replace function dbml.replay(run_id uuid, params jsonb default '{}')
returns table (what text, original text, replayed text, same boolean)
language plpgsql volatile parallel unsafe security invoker
-- Invoker: the input queries run again as the caller, in the caller's transaction and snapshot.
as $$
declare
    first dbml.runs;
    second dbml.runs;
    request jsonb;
    earlier uuid[];
    models jsonb := '[]';
    chunk text[];
    state text; said text;
begin
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception 'a replay must run in a transaction that is READ COMMITTED, this is %', upper(current_setting('transaction_isolation'))
            using errcode = 'ML009', hint = 'BEGIN ISOLATION LEVEL READ COMMITTED';
    end if;
    select * into first from dbml.runs r where r.run_id = replay.run_id;
    if first.run_id is null then
        raise exception 'there is no run %', coalesce(run_id::text, 'NULL') using errcode = 'ML052',
            detail = jsonb_build_object('run_id', run_id), hint = 'SELECT run_id, status, started_at FROM dbml.runs';
    elsif first.kind in ('client', 'child') then
        raise exception 'only a run of a script can be replayed, run % is a %', run_id,
            case first.kind when 'client' then 'client''s' else 'part of one' end
            using errcode = 'ML009', hint = 'SELECT parent_run_id, kind FROM dbml.runs';
    elsif first.finished_at is null then
        raise exception 'a run must have ended to be replayed, run % is %', run_id, first.status using errcode = 'ML009';
    end if;
    request := dbml_channel.replay_request(to_jsonb(first) - 'log', params);
    earlier := array(select r.run_id from dbml.runs r where r.replay_of = first.run_id);
    begin
        for chunk in select c.literals from dbml_channel.run_call(request) c loop
            if cardinality(chunk) = 3 and chunk[1] = 'register' then
                models := models || jsonb_build_object('name', chunk[2], 'digest', chunk[3]);
            end if;
        end loop;
    exception when others then
        get stacked diagnostics state = returned_sqlstate, said = message_text;
        select * into second from dbml.runs r
        where r.replay_of = first.run_id and r.backend_pid = pg_backend_pid() and r.run_id <> all (earlier) and r.finished_at is not null;
        if second.run_id is null then
            raise;   -- it did not run at all
        end if;
    end;
    if second.run_id is null then
        select * into second from dbml.runs r
        where r.replay_of = first.run_id and r.backend_pid = pg_backend_pid() and r.run_id <> all (earlier);
    end if;
    if second.run_id is null then
        raise exception 'the worker has not recorded the replay of run %', run_id using errcode = 'ML011',
            hint = 'SELECT run_id, status FROM dbml.runs WHERE replay_of IS NOT NULL ORDER BY started_at DESC';
    end if;
    return query
        with rows_ as (
            select * from dbml_channel.replay_conditions(to_jsonb(first) - 'log', to_jsonb(second) - 'log')
            union all
            select * from dbml_channel.replay_results(to_jsonb(first) - 'log', to_jsonb(second) - 'log', models))
        select 'run', first.run_id::text, second.run_id::text, (select bool_and(r.same) from rows_ r)
        union all
        select r.what, r.original, r.replayed, r.same from rows_ r;
end
$$;
comment on function dbml.replay(uuid, jsonb) is
'Run the script of a run again, under the same conditions as far as they can be held, and compare what comes of it.

It gets the same text or snapshot, parameters, arguments, environment lock, seed and model versions; input queries run
again, as you, on your snapshot. A row for each condition and each result: what, original, replayed, and same, which is
false where they differ and NULL where nobody can say, as of a query''s tables that may have changed since. The row run has
the two ids, and false where anything differs. Metrics are compared value by value, models and artifacts by their bytes.
The replay is recorded as a run with replay_of, and registers no model. It belongs to your transaction as a call of
run_script does. params: values in place of recorded ones, and must give those that were secrets.
Errors: ML009 it is no run of a script, or has not ended, or a secret is missing; ML052 no such run.
Example: SELECT c.what, c.original, c.replayed, c.same
    FROM (SELECT run_id FROM dbml.runs WHERE workspace = ''default'' AND kind = ''script'' AND status = ''completed'' AND replay_of IS NULL
          AND inputs = ''[]'' AND params = ''{}'' ORDER BY started_at DESC LIMIT 1) r, dbml.replay(r.run_id) c;';

create or replace function dbml_channel.replay_request(run jsonb, given jsonb)
returns jsonb
language plpgsql stable parallel restricted security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    options constant jsonb := run -> 'options';
    params jsonb := coalesce(nullif(run -> 'params', 'null'), '{}') || coalesce(given, '{}');
    environment text;
begin
    if jsonb_path_exists(params, '$.**."$secret" ? (@ == true)') then
        raise exception 'a secret parameter is not recorded, and must be given again' using errcode = 'ML009',
            detail = jsonb_build_object('params', params),
            hint = format('SELECT * FROM dbml.replay(%L, params => ''{"password": {"$secret": "..."}}'')', run ->> 'run_id');
    end if;
    if run ->> 'lock_sha256' is not null then
        select e.name || ':' || e.version into environment from dbml.environments e
        where e.workspace = run ->> 'workspace' and e.lock_sha256 = run ->> 'lock_sha256'
        order by (e.name, e.version) = (run ->> 'environment', (run ->> 'environment_version')::integer) desc, e.version desc limit 1;
    end if;
    return dbml_channel.script_request(run ->> 'script', null,
            coalesce((select jsonb_object_agg(i ->> 'name', case
                when i ? 'dataset' and to_jsonb(dbml_channel.query_of_dataset(i ->> 'dataset', run ->> 'workspace')) = i -> 'query'
                then jsonb_build_object('dataset', i -> 'dataset') else i -> 'query' end) from jsonb_array_elements(run -> 'inputs') i), '{}'),
            params, run ->> 'language', coalesce(options ->> 'input_name', 'InputDataSet'), coalesce(options ->> 'output_name', 'OutputDataSet'),
            (select array_agg(k) from jsonb_array_elements_text(options -> 'partition_by') k),
            (select array_agg(k) from jsonb_array_elements_text(options -> 'order_by') k),
            (options ->> 'rows_per_read')::integer, coalesce((options ->> 'parallel')::integer, 1), environment, null,
            make_interval(secs => (options ->> 'timeout_s')::double precision), run ->> 'workspace', run ->> 'experiment')
        || jsonb_build_object('result', case when run ->> 'kind' = 'script' and run ->> 'language' = 'python' then 'json' else 'none' end,
                              'seed', run -> 'seed', 'replay_of', run -> 'run_id');
end
$$;
comment on function dbml_channel.replay_request(jsonb, jsonb) is 'The request of a call that repeats a run.';

create or replace function dbml_channel.query_of_dataset(dataset text, workspace text)
returns text
language plpgsql stable parallel restricted security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    return dbml.dataset_query(dataset, workspace);
exception when others then
    return null;   -- the version is gone; its query is in the run's record
end
$$;
comment on function dbml_channel.query_of_dataset(text, text) is 'The query of a dataset''s version; NULL where that is gone.';

create or replace function dbml_channel.replay_conditions(first jsonb, second jsonb)
returns table (what text, original text, replayed text, same boolean)
language sql stable parallel restricted security invoker
set search_path = pg_catalog, pg_temp
as $$
    select c.what, c.original, c.replayed, c.original is not distinct from c.replayed
    from (values
        (1, 'script', first ->> 'script_sha256', second ->> 'script_sha256'),
        (2, 'params', first ->> 'params', second ->> 'params'),
        (3, 'seed', first ->> 'seed', second ->> 'seed'),
        (4, 'environment', coalesce('lock ' || (first ->> 'lock_sha256'), 'packages ' || (first -> 'software' ->> 'packages_sha256')),
            coalesce('lock ' || (second ->> 'lock_sha256'), 'packages ' || (second -> 'software' ->> 'packages_sha256'))),
        (5, 'python', first -> 'software' ->> 'python', second -> 'software' ->> 'python'),
        (6, 'dbml', first -> 'software' ->> 'dbml', second -> 'software' ->> 'dbml')) c(o, what, original, replayed)
    union all
    -- A query that reads no table gives the same rows.  Tables have no versions, and a dataset's is of its query.
    select 'input ' || (i ->> 'name'), coalesce('dataset ' || (i ->> 'dataset'), i ->> 'query'), coalesce(
               'read again from ' || nullif((select string_agg(t, ', ') from jsonb_array_elements_text(i -> 'relations') t), ''),
               'dataset ' || (i ->> 'dataset'), i ->> 'query'),
           case when i -> 'relations' = '[]' then true end
    from jsonb_array_elements(first -> 'inputs') i
    union all
    select 'model ' || (o ->> 'asked'), (o ->> 'name') || ':' || (o ->> 'version'), (r ->> 'name') || ':' || (r ->> 'version'),
           o ->> 'digest' is not distinct from r ->> 'digest'
    from jsonb_array_elements(first -> 'loaded') o
    left join jsonb_array_elements(second -> 'loaded') r on r ->> 'asked' = o ->> 'asked';
$$;
comment on function dbml_channel.replay_conditions(jsonb, jsonb) is 'Under what a run and its replay ran, compared.';

create or replace function dbml_channel.replay_results(first jsonb, second jsonb, models jsonb)
returns table (what text, original text, replayed text, same boolean)
language sql stable parallel restricted security invoker
set search_path = pg_catalog, pg_temp
as $$
    select c.what, c.original, c.replayed, c.original is not distinct from c.replayed
    from (values (1, 'status', first ->> 'status', second ->> 'status'), (2, 'error', first ->> 'error', second ->> 'error'),
                 (3, 'rows in', first ->> 'rows_in', second ->> 'rows_in'),
                 (4, 'rows out', first ->> 'rows_out', case when first ->> 'rows_out' = second ->> 'rows_out' or second -> 'options' ->> 'result' = 'json'
                                                       then second ->> 'rows_out' else first ->> 'rows_out' end)) c(o, what, original, replayed)
    where num_nonnulls(c.original, c.replayed) > 0
    union all
    select 'metric ' || coalesce(o.name, r.name), o.shown, r.shown, o.all_ is not distinct from r.all_
    from (select m.name, array_agg((m.step, m.value)::text) as all_, case when count(*) = 1 then max(m.value)::text
                 else format('%s values, the last %s', count(*), (array_agg(m.value))[count(*)]) end as shown
          from dbml.metrics m where m.run_id = (first ->> 'run_id')::uuid group by m.name) o
    full join (select m.name, array_agg((m.step, m.value)::text) as all_, case when count(*) = 1 then max(m.value)::text
                 else format('%s values, the last %s', count(*), (array_agg(m.value))[count(*)]) end as shown
          from dbml.metrics m where m.run_id = (second ->> 'run_id')::uuid group by m.name) r on r.name = o.name
    union all
    select 'registered ' || coalesce(o.name, r.name), o.digest, r.digest, o.digest is not distinct from r.digest
    from (select m.name, m.digest, row_number() over (partition by m.name order by m.version) as n
          from dbml.models m where m.run_id = (first ->> 'run_id')::uuid) o
    full join (select e ->> 'name' as name, e ->> 'digest' as digest, row_number() over (partition by e ->> 'name' order by i) as n
               from jsonb_array_elements(models) with ordinality u(e, i)) r on (r.name, r.n) = (o.name, o.n)
    union all
    select 'artifact ' || coalesce(o.name, r.name), o.digest, r.digest, o.digest is not distinct from r.digest
    from (select a.name, a.digest from dbml.artifacts a where a.run_id = (first ->> 'run_id')::uuid) o
    full join (select a.name, a.digest from dbml.artifacts a where a.run_id = (second ->> 'run_id')::uuid) r on r.name = o.name;
$$;
comment on function dbml_channel.replay_results(jsonb, jsonb, jsonb) is 'What came of a run and of its replay, compared.';

create or replace function dbml_channel._repeat(request jsonb)
returns jsonb
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables.  Whoever may read the workspace of a submitted run may have its snapshot run.
as $$
declare
    run dbml._runs;
begin
    select * into run from dbml._runs r
    where r.run_id = (request ->> 'replay_of')::uuid and dbml_channel.may(r.workspace_id, 'read');
    if run.run_id is null then
        raise exception 'there is no run %', request ->> 'replay_of' using errcode = 'ML052';
    elsif run.kind <> 'submitted' then
        return '{}';
    end if;
    return jsonb_build_object('submitted', jsonb_build_object('snapshot', encode(run.snapshot, 'hex')), 'script', run.script,
        'language', 'python', 'params', dbml_channel.submitted_params(request -> 'params' -> 'arguments', request -> 'params' -> 'environment_variables',
            nullif(request -> 'params' -> 'outputs', 'null')));
end
$$;
comment on function dbml_channel._repeat(jsonb) is 'What a request to repeat a submitted run says about it.';

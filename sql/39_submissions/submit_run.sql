create or replace function dbml.submit_run(
    experiment            text,
    snapshot              text,
    script                text,
    arguments             jsonb    default '[]',
    inputs                jsonb    default '{}',
    environment           text     default null,
    environment_variables jsonb    default '{}',
    pool                  text     default null,
    timeout               interval default null,
    seed                  bigint   default null,
    target                text     default 'worker',
    tags                  jsonb    default '{}',
    properties            jsonb    default '{}',
    workspace             text     default null,
    outputs               jsonb    default '{}',
    parent_run_id         uuid     default null)
returns uuid
language plpgsql volatile parallel unsafe security invoker
-- Invoker: the functions that hold the input queries must be the caller's.
as $$
begin
    return dbml_channel.submit(experiment, snapshot, script, arguments, dbml_channel.make_sources(inputs, workspace), environment,
        environment_variables, pool, timeout, seed, target, tags, properties, workspace, outputs, parent_run_id);
end
$$;
comment on function dbml.submit_run(text, text, text, jsonb, jsonb, text, jsonb, text, interval, bigint, text, jsonb, jsonb, text, jsonb, uuid) is
'Hand a script over to the worker, which runs it by itself; returns the run''s id at once.

snapshot is what dbml.create_snapshot returned, script the path of a file in it, which runs as python script arguments...
would, in a fresh process with the snapshot''s files as its working directory, in the environment, under the pool''s
limits. It begins when your transaction has committed and its turn has come, and goes on when your session ends. If its
worker dies before it began, the next worker begins it; if it dies later, the run is interrupted.
inputs is {"train": "SELECT ...", "test": {"dataset": "iris:2"}}: the queries, and those of the datasets, run when the run begins, as you, and read what is there then; in the script
Run.get_context().input_datasets["train"].to_pandas_dataframe() has their rows.
arguments is a list of texts, numbers and truth values; in it and in environment_variables {"$secret": value} is the
value for the script, and neither recorded nor logged. Follow the run by dbml.runs, dbml.run_log and dbml.metrics, stop
it by dbml.cancel_script. What it writes to outputs/ and logs/ is kept as artifacts. In it
Run.get_context() of dbml.core is the run; a model that it registers is there at once, for there is no transaction of yours.
target is recorded; where a pool has its name and pool is not given, that is the pool.
seed: of random and numpy.random; where none is given one is chosen and recorded.
outputs is {"clean": {"path": "clean/{run-id}", "folder": "clean"}}: when the script has completed, the files that it left in
that folder of its working directory (.dbml-outputs/clean where none is named) are files of the workspace''s default
datastore, under the path. With "dataset": {"name": "clean", "kind": "file", "definition": {}} they are registered as its next
version, with the run as its origin; "overwrite": true lets them take the place of other files there. A replay keeps none.
parent_run_id: the run that it is a part of; it begins and ends by itself. A run has 10,000 such
parts at most, and at most 16 runs above it.
Errors: ML009 an argument; ML005 too many parts, or too deep; ML052 no such parent; ML036 no such environment; ML050 no such workspace; ML054 no such snapshot; ML060, ML061 no such
pool, or no right to it.
Example: SELECT dbml.submit_run(''manual'', dbml.create_snapshot(''{"hello.py": "import sys; print(sys.argv)"}''),
    ''hello.py'', arguments => ''["--alpha", 0.5]'');';

create or replace function dbml_channel.submit(
    experiment text, snapshot text, script text, arguments jsonb, sources jsonb, environment text, environment_variables jsonb,
    pool text, timeout interval, seed bigint, target text, tags jsonb, properties jsonb, workspace text, outputs jsonb,
    parent_run_id uuid)
returns uuid
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables and reads the signing key.  Who submits is decided here, from the session.
as $$
declare
    caller constant text := dbml_channel.caller();
    home record;
begin
    if not has_function_privilege(caller, 'dbml.run_script'::regproc::oid, 'execute') then
        perform dbml_channel._refuse_scripts(caller);
    end if;
    perform dbml_channel._check_submission(experiment, script, timeout, seed, tags, properties);
    perform dbml_channel._check_inputs_v1(sources, caller);
    home := dbml_channel.find_workspace(workspace, 'write');
    if parent_run_id is not null and (dbml._find_run(parent_run_id, 'write')).workspace_id <> home.id then
        raise exception 'a run must be in the workspace of its parent, which is not "%"', home.name using errcode = 'ML009';
    end if;
    -- Of which dataset an input is, is found here, and not taken from who calls.
    sources := dbml_channel.with_datasets(
        (select coalesce(jsonb_agg(s - array['asked', 'dataset', 'dataset_id'] order by o), '[]') from jsonb_array_elements(sources) with ordinality u(s, o)),
        jsonb_build_object('workspace', home.name, 'datasets', (
            select coalesce(jsonb_object_agg(s ->> 'name', s ->> 'asked'), '{}') from jsonb_array_elements(sources) s where s ? 'asked')));
    return dbml_channel._submit(jsonb_build_object(
        'user', caller, 'session_user', session_user, 'workspace', home.name, 'workspace_id', home.id, 'experiment', experiment,
        'snapshot', encode(dbml_channel.find_snapshot(snapshot, home.id), 'hex'), 'script', script,
        'params', dbml_channel.submitted_params(arguments, environment_variables, outputs), 'inputs', sources,
        'environment', dbml_channel.find_environment(environment, home.name), 'pool', pool, 'timeout_s', extract(epoch from timeout),
        'seed', seed, 'client_address', inet_client_addr(), 'application', current_setting('application_name')),
        target, tags, properties, parent_run_id);
end
$$;
comment on function dbml_channel.submit(text, text, text, jsonb, jsonb, text, jsonb, text, interval, bigint, text, jsonb, jsonb, text, jsonb, uuid) is
    'Submit a run whose input queries are in functions of the caller.';

create or replace function dbml_channel._check_submission(
    experiment text, script text, timeout interval, seed bigint, tags jsonb, properties jsonb)
returns void
language plpgsql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if script is null or script ~ '(^|/)(\.{0,2})(/|$)' or script ~ '[[:cntrl:]\\]' then
        raise exception 'script must be the path of a file in the snapshot, got %', coalesce(quote_literal(script), 'NULL')
            using errcode = 'ML009';
    elsif experiment is null or experiment ~ '[:@/[:cntrl:]]' or btrim(experiment) <> experiment or length(experiment) not between 1 and 255 then
        raise exception 'an experiment''s name must have 1 to 255 characters and none of : @ /, got %', coalesce(quote_literal(experiment), 'NULL')
            using errcode = 'ML009';
    elsif jsonb_typeof(coalesce(tags, '{}')) <> 'object' or jsonb_typeof(coalesce(properties, '{}')) <> 'object' then
        raise exception 'tags and properties must be JSON objects' using errcode = 'ML009';
    elsif timeout <= interval '0' then
        raise exception 'timeout must be more than zero, got %', timeout using errcode = 'ML009';
    elsif seed not between 0 and 4294967295 then
        raise exception 'seed must be 0 to 4294967295, got %', seed using errcode = 'ML009';
    end if;
end
$$;
comment on function dbml_channel._check_submission(text, text, interval, bigint, jsonb, jsonb) is 'Check what a run is submitted with.';

create or replace function dbml_channel._submit(request jsonb, target text, tags jsonb, properties jsonb, parent_run_id uuid)
returns uuid
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above; reached only from functions that say who submits.
as $$
declare
    most_children constant integer := 10000;
    most_above constant integer := 16;   -- a script that submits itself comes to an end
    made constant uuid := gen_random_uuid();
    home constant bigint := request ->> 'workspace_id';
    params constant jsonb := request -> 'params';
    place constant jsonb := nullif(request -> 'environment', 'null');
    digest constant bytea := decode(request ->> 'snapshot', 'hex');
    pool text := request ->> 'pool';
    chosen jsonb;
    header text;
begin
    if (select count(*) >= most_children from dbml._runs r where r.parent_run_id = _submit.parent_run_id) then
        raise exception 'a run must have % child runs at most', most_children
            using errcode = 'ML005', detail = jsonb_build_object('limit', 'children', 'value', most_children);
    end if;
    if (with recursive above(run_id, height) as (
            select _submit.parent_run_id, 1 where _submit.parent_run_id is not null
            union all
            select r.parent_run_id, a.height + 1 from above a join dbml._runs r on r.run_id = a.run_id
            where r.parent_run_id is not null and a.height <= most_above)
        select max(a.height) > most_above from above a) then
        raise exception 'a run must have % runs above it at most', most_above
            using errcode = 'ML005', detail = jsonb_build_object('limit', 'depth', 'value', most_above),
                  hint = 'a script that submits itself must know when to stop';
    end if;
    pool := coalesce(pool, (select p.name::text from dbml._pools p where p.name::text = target));
    chosen := dbml_channel._choose_pool(pool, request ->> 'user');   -- again when it begins: the limits that hold then
    if chosen ? 'refusal' then
        raise exception '%', chosen -> 'refusal' ->> 'message' using errcode = chosen -> 'refusal' ->> 'sqlstate',
            detail = chosen -> 'refusal' ->> 'detail', hint = chosen -> 'refusal' ->> 'hint';
    end if;
    insert into dbml._experiments (workspace_id, name, created_by) values (home, request ->> 'experiment', request ->> 'user') on conflict do nothing;
    header := (request || jsonb_build_object('kind', 'submitted', 'run_id', made, 'language', 'python', 'environment', place,
        'pool', pool, 'database', current_database()))::text;
    insert into dbml._runs (run_id, kind, parent_run_id, workspace_id, workspace, experiment, username, session_user_, database, application,
                            client_address, backend_pid, language, script, script_sha256, params, inputs, status, started_at,
                            environment, environment_version, lock_sha256, pool, options, snapshot, arguments, target, seed,
                            tags, properties)
    values (made, 'submitted', _submit.parent_run_id, home, request ->> 'workspace', request ->> 'experiment', request ->> 'user',
            request ->> 'session_user', current_database(), request ->> 'application', request ->> 'client_address', pg_backend_pid(), 'python',
            request ->> 'script', encode(sha256(digest || convert_to(request ->> 'script', 'UTF8')), 'hex'), dbml_channel.hide_secrets(params),
            dbml_channel.without_functions(request -> 'inputs'), 'queued', clock_timestamp(),
            place ->> 'name', (place ->> 'version')::integer, place ->> 'lock_sha256', chosen -> 'pool' ->> 'name',
            jsonb_strip_nulls(jsonb_build_object('timeout_s', request -> 'timeout_s')), digest,
            dbml_channel.hide_secrets(params -> 'arguments'), target, (request ->> 'seed')::bigint,
            coalesce(tags, '{}'), coalesce(properties, '{}'));
    insert into dbml._submissions (run_id, request, signature) values (made, header, dbml_channel._sign(header));
    perform pg_notify('dbml_submissions', '');   -- is heard when the transaction commits
    return made;
end
$$;
comment on function dbml_channel._submit(jsonb, text, jsonb, jsonb, uuid) is 'Record what somebody submits, and tell the worker.';

create or replace function dbml_channel.submitted_params(arguments jsonb, environment_variables jsonb, outputs jsonb default '{}')
returns jsonb
language plpgsql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    wrong text;
begin
    if jsonb_typeof(coalesce(arguments, '[]')) <> 'array' then
        raise exception 'arguments must be a JSON list, got %', jsonb_typeof(arguments) using errcode = 'ML009',
            hint = 'arguments => ''["--alpha", 0.5]''';
    elsif jsonb_typeof(coalesce(environment_variables, '{}')) <> 'object' then
        raise exception 'environment_variables must be a JSON object, got %', jsonb_typeof(environment_variables) using errcode = 'ML009';
    end if;
    select v.value::text into wrong
    from (select a.value from jsonb_array_elements(coalesce(arguments, '[]')) a
          union all select e.value from jsonb_each(coalesce(environment_variables, '{}')) e) v
    where jsonb_typeof(v.value) not in ('string', 'number', 'boolean')
      and not (jsonb_typeof(v.value) = 'object' and v.value - '$secret' = '{}' and v.value ? '$secret'
               and jsonb_typeof(v.value -> '$secret') in ('string', 'number'))
    limit 1;
    if wrong is not null then
        raise exception 'arguments and environment_variables must be texts, numbers, truth values or secrets, got %', wrong
            using errcode = 'ML009', hint = '{"$secret": "..."} is a secret';
    elsif exists (select from jsonb_object_keys(coalesce(environment_variables, '{}')) k where k !~ '^[A-Za-z_][A-Za-z0-9_]*$') then
        raise exception 'an environment variable''s name must have letters, digits and _, got %',
            (select quote_literal(k) from jsonb_object_keys(environment_variables) k where k !~ '^[A-Za-z_][A-Za-z0-9_]*$' limit 1)
            using errcode = 'ML009';
    end if;
    return jsonb_build_object('arguments', coalesce(arguments, '[]'), 'environment_variables', coalesce(environment_variables, '{}'))
        || case when coalesce(outputs, '{}') <> '{}' then jsonb_build_object('outputs', dbml_channel._checked_outputs(outputs)) else '{}' end;
end
$$;
comment on function dbml_channel.submitted_params(jsonb, jsonb, jsonb) is 'Check what a submitted script is given.';

create or replace function dbml_channel.hide_secrets(params jsonb)
returns jsonb
language plpgsql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    return case jsonb_typeof(params)
        when 'array' then coalesce((select jsonb_agg(dbml_channel.hide_secrets(a.value) order by a.ordinality)
                                    from jsonb_array_elements(params) with ordinality a), '[]')
        when 'object' then case when params ? '$secret' then '{"$secret": true}'
            else coalesce((select jsonb_object_agg(e.key, dbml_channel.hide_secrets(e.value)) from jsonb_each(params) e), '{}') end
        else params end;
end
$$;
comment on function dbml_channel.hide_secrets(jsonb) is 'Parameters as they are recorded: of a secret only that it was one.';

create or replace function dbml_channel._sign(message text)
returns text
language sql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads the signing key; called by definers only, for what they have made themselves.
begin atomic
    -- HMAC-SHA-256, RFC 2104, as in open_call.
    select encode(sha256(w.outer_key || sha256(w.inner_key || convert_to(message, 'UTF8'))), 'hex') from dbml._worker w;
end;
comment on function dbml_channel._sign(text) is 'The signature of a message for the worker.';

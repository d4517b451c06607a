-- Runs that a submitted script submits itself, as parts of its own: they are its submitter's, and begin and end by themselves.

create or replace function dbml_channel._submit_child_v1(run_id uuid, asked jsonb)
returns uuid
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables, for the worker.  The script's own run says who submits, where and in which environment.
as $$
declare
    largest constant bigint := 300 * 1024 * 1024;   -- as for dbml.create_snapshot
    run constant dbml._runs := dbml_channel._submitted_run(run_id);
    own constant uuid := (asked ->> 'parent_run_id')::uuid;   -- the script's run, or a child that it has begun
    archive record;
    place jsonb;
begin
    if not exists (select from dbml._runs r where r.run_id = own and r.workspace_id = run.workspace_id) then
        raise exception 'there is no run %', own using errcode = 'ML052';
    end if;
    perform dbml_channel._check_submission(run.experiment, asked ->> 'script', make_interval(secs => (asked ->> 'timeout_s')::float8),
        (asked ->> 'seed')::bigint, asked -> 'tags', asked -> 'properties');
    select a.name, a.digest, b.size, dbml._blob_part(a.digest, 0) as begins into archive
    from dbml._artifacts a join dbml._blobs b on b.digest = a.digest
    where (a.run_id, a.name) = (run.run_id, asked ->> 'archive');
    if archive.name is null or substr(archive.begins, 1, 2) <> '\x1f8b' then
        raise exception 'run % does not keep the archive "%"', run.run_id, asked ->> 'archive' using errcode = 'ML052';
    elsif archive.size > largest then
        raise exception 'a snapshot can have % MB at most, got % MB', largest >> 20, archive.size >> 20
            using errcode = 'ML005', detail = jsonb_build_object('limit', 'snapshot', 'value', largest >> 20, 'unit', 'MB');
    end if;
    insert into dbml._snapshots (workspace_id, digest, created_by) values (run.workspace_id, archive.digest, run.username)
    on conflict do nothing;
    delete from dbml._artifacts a where (a.run_id, a.name) = (run.run_id, archive.name);
    select jsonb_build_object('id', e.environment_id, 'name', e.name, 'version', e.version,
                              'python_version', e.python_version, 'lock_sha256', e.lock_sha256)
    into place
    from dbml._environments e
    where (e.workspace_id, e.name::text, e.version) = (run.workspace_id, run.environment, run.environment_version);
    return dbml_channel._submit(jsonb_build_object(
        'user', run.username, 'session_user', run.session_user_, 'workspace', run.workspace, 'workspace_id', run.workspace_id,
        'experiment', run.experiment, 'snapshot', encode(archive.digest, 'hex'), 'script', asked ->> 'script',
        'params', dbml_channel.submitted_params(asked -> 'arguments', asked -> 'environment_variables', asked -> 'outputs'),
        'inputs', '[]'::jsonb, 'environment', place, 'pool', run.pool, 'timeout_s', (asked ->> 'timeout_s')::float8,
        'seed', (asked ->> 'seed')::bigint, 'client_address', run.client_address, 'application', run.application),
        coalesce(asked ->> 'target', 'worker'), asked -> 'tags', asked -> 'properties', own);
end
$$;
comment on function dbml_channel._submit_child_v1(uuid, jsonb) is
    'Submit a run for a submitted script, as a part of its run or of a child that it has begun; its folder is an artifact.';

create or replace function dbml_channel._child_state_v1(run_id uuid, child uuid)
returns jsonb
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables, for the worker: of runs that are parts of a script's run.
as $$
declare
    run constant dbml._runs := dbml_channel._submitted_run(run_id);
    found_run dbml._runs;
begin
    select * into found_run from dbml._runs r where r.run_id = child and r.workspace_id = run.workspace_id and r.run_id <> run.run_id
        and exists (select from dbml._runs p where p.run_id = r.parent_run_id
                    and (p.run_id = run.run_id or p.parent_run_id = run.run_id));
    if found_run.run_id is null then
        raise exception 'run % has no part %', run.run_id, child using errcode = 'ML052';
    end if;
    return jsonb_build_object('status', found_run.status, 'error', found_run.error, 'tags', found_run.tags,
        'metrics', coalesce((
            select jsonb_agg(jsonb_build_object('name', m.name, 'step', m.step, 'value', m.value, 'kind', m.kind, 'data', m.data) order by m.n)
            from (select l.*, row_number() over (order by l.ordinal) as n from dbml._metrics l where l.run_id = child) m
            where m.n <= 10000), '[]'));
end
$$;
comment on function dbml_channel._child_state_v1(uuid, uuid) is 'How a run stands that a script has submitted, and what it has logged, 10,000 values at most.';

-- What the worker calls about submitted runs.  Its login may read none of these tables: each function gives what one run
-- needs, and what is done for a run is done as its submitter might do it at that moment.

create or replace function dbml_channel._may_submit(role text, workspace bigint)
returns boolean
language sql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads the private table of grants; for the worker, which asks again before it begins what a role has submitted.
begin atomic
    select to_regrole(quote_ident(role)) is not null
        and has_function_privilege(role, 'dbml.run_script'::regproc::oid, 'execute')
        and (dbml_channel.is_administrator(role) or exists (
            select from dbml._workspace_grants g
            where g.workspace_id = _may_submit.workspace and g.privilege in ('owner', 'contributor')
              and dbml_channel.is_grantee(role, g.grantee)));
end;
comment on function dbml_channel._may_submit(text, bigint) is 'Whether a role may run scripts in a workspace at this moment.';

create or replace function dbml_channel._waiting_runs_v1(held uuid[], most integer)
returns table (run_id uuid, request text, signature text, pool jsonb)
language sql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables, for the worker.
begin atomic
    -- Of each role its oldest first, the roles in turn.  Rights and the limits of the pool are those of this moment.
    select s.run_id, s.request, s.signature, case
        when dbml_channel._may_submit(s.username, s.workspace_id)
        then dbml_channel._choose_pool(s.request::jsonb ->> 'pool', s.username)
        else jsonb_build_object('refusal', jsonb_build_object('sqlstate', '42501',
            'message', format('role %s may no longer run scripts in workspace "%s"', s.username, s.workspace))) end
    from (select s.run_id, s.request, s.signature, s.submitted_at, r.username, r.workspace_id, r.workspace,
                 row_number() over (partition by r.username order by s.submitted_at) as turn
          from dbml._submissions s join dbml._runs r using (run_id)) s
    where s.run_id <> all (held)
    order by s.turn, s.submitted_at
    limit most;
end;
comment on function dbml_channel._waiting_runs_v1(uuid[], integer) is 'Runs that wait to be begun, without those that the worker holds.';

create or replace function dbml_channel._still_waiting_v1(held uuid[])
returns setof uuid
language sql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above.
begin atomic
    select s.run_id from dbml._submissions s where s.run_id = any (held);
end;
comment on function dbml_channel._still_waiting_v1(uuid[]) is 'Which of these runs wait: the others were taken back.';

create or replace function dbml_channel._begin_run_v1(run_id uuid, pool text, options jsonb, software jsonb, seed bigint)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above.
as $$
begin
    -- dbml.cancel_script deletes this row too: who comes first has the run.
    delete from dbml._submissions s where s.run_id = _begin_run_v1.run_id;
    if not found then
        return false;
    end if;
    update dbml._runs r
    set status = 'running', pool = _begin_run_v1.pool, options = r.options || _begin_run_v1.options, software = _begin_run_v1.software,
        seed = _begin_run_v1.seed, queued_seconds = greatest(0, extract(epoch from clock_timestamp() - r.started_at))
    where r.run_id = _begin_run_v1.run_id;
    return found;
end
$$;
comment on function dbml_channel._begin_run_v1(uuid, text, jsonb, jsonb, bigint) is
    'Record that a run begins; false where it does not wait any more.';

create or replace function dbml_channel._wait_no_more_v1(run_id uuid)
returns void
language sql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above.
begin atomic
    delete from dbml._submissions s where s.run_id = _wait_no_more_v1.run_id;
end;
comment on function dbml_channel._wait_no_more_v1(uuid) is 'Let a run wait no more, as it has ended.';

create or replace function dbml_channel._snapshot_part_v1(snapshot text, part integer)
returns bytea
language sql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above.
begin atomic
    select dbml._blob_part(s.digest, part) from dbml._snapshots s where s.digest = decode(snapshot, 'hex') limit 1;
end;
comment on function dbml_channel._snapshot_part_v1(text, integer) is 'One part of a snapshot''s archive, counted from 0; NULL past its end.';

create or replace function dbml_channel._environment_lock_v1(environment_id bigint)
returns text
language sql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above.
begin atomic
    select e.lock from dbml._environments e where e.environment_id = _environment_lock_v1.environment_id;
end;
comment on function dbml_channel._environment_lock_v1(bigint) is 'The lock of an environment; NULL where it is gone.';

create or replace function dbml_channel._submitted_run(run_id uuid)
returns dbml._runs
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above.
as $$
declare
    run dbml._runs;
begin
    select * into run from dbml._runs r
    where r.run_id = _submitted_run.run_id and r.kind = 'submitted' and r.source = 'worker' and r.status = 'running';
    if run.run_id is null then
        raise exception 'run % is no submitted run that goes on', run_id using errcode = 'ML052';
    elsif not dbml_channel._may_submit(run.username, run.workspace_id) then
        raise insufficient_privilege using message = format('role %s may no longer run scripts in workspace "%s"', run.username, run.workspace);
    end if;
    return run;
end
$$;
comment on function dbml_channel._submitted_run(uuid) is 'A submitted run that goes on, whose submitter may still run scripts in its workspace.';

create or replace function dbml_channel._find_run_model_v1(
    run_id uuid, model text, out model_id bigint, out name text, out version integer, out digest bytea)
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above.  Who may run scripts in a workspace may read its models.
as $$
declare
    run constant dbml._runs := dbml_channel._submitted_run(run_id);
    plain constant text := split_part(split_part(model, '@', 1), ':', 1);
    mark constant text := substr(model, length(plain) + 1);
begin
    select m.model_id, m.name, m.version, m.digest into model_id, name, version, digest
    from dbml._models m
    where m.workspace_id = run.workspace_id and m.name::text = plain
      and (mark = '' or mark = ':' || m.version
           or exists (select from dbml._model_aliases a
                      where (a.workspace_id, a.name, a.version) = (m.workspace_id, m.name::text, m.version) and '@' || a.alias = mark))
    order by m.version desc limit 1;
    if model_id is null then
        raise exception 'model "%" is not in workspace "%"', model, run.workspace
            using errcode = 'ML020', detail = jsonb_build_object('model', model, 'workspace', run.workspace),
                  hint = 'SELECT name, version, aliases FROM dbml.models';
    end if;
end
$$;
comment on function dbml_channel._find_run_model_v1(uuid, text) is 'The version of a model that a submitted run asks for, in its workspace.';

create or replace function dbml_channel._run_model_part_v1(run_id uuid, model_id bigint, part integer)
returns bytea
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above.
as $$
declare
    run constant dbml._runs := dbml_channel._submitted_run(run_id);
begin
    return (select dbml._blob_part(m.digest, part) from dbml._models m
            where (m.model_id, m.workspace_id) = (_run_model_part_v1.model_id, run.workspace_id));
end
$$;
comment on function dbml_channel._run_model_part_v1(uuid, bigint, integer) is
    'One part of a model in the workspace of a submitted run, counted from 0; NULL past its end.';

create or replace function dbml_channel._add_run_model_v1(run_id uuid, head jsonb)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above.
as $$
declare
    run constant dbml._runs := dbml_channel._submitted_run(run_id);
    file record;
    listed jsonb := '[]';
    whole bytea;
    made integer;
    its_id bigint;
begin
    if head ? 'files' then
        -- As dbml.register_model_files keeps them: one pickle is the model, of a folder the bytes are the list of its files.
        for file in select f.path, a.digest, b.size
                    from jsonb_to_recordset(head -> 'files') f(path text, artifact text)
                    left join dbml._artifacts a on (a.run_id, a.name) = (run.run_id, f.artifact)
                    left join dbml._blobs b on b.digest = a.digest order by f.path loop
            if file.digest is null then
                raise exception 'run % does not keep the file "%"', run.run_id, file.path using errcode = 'ML052';
            end if;
            whole := file.digest;
            listed := listed || jsonb_build_object('path', file.path, 'sha256', encode(file.digest, 'hex'), 'size', file.size);
        end loop;
        if head ->> 'format' = 'files' then
            whole := dbml._store_blob(convert_to(jsonb_build_object('files', listed)::text, 'UTF8'));
        end if;
    else
        whole := decode(head ->> 'digest', 'hex');
    end if;
    made := dbml._insert_model(run.username, run.workspace_id, head ->> 'name', whole, head || jsonb_build_object(
        'run_id', run.run_id, 'environment_id', (
            select e.environment_id from dbml._environments e
            where (e.workspace_id, e.name::text, e.version) = (run.workspace_id, run.environment, run.environment_version))));
    select m.model_id into its_id from dbml._models m
    where (m.workspace_id, m.name::text, m.version) = (run.workspace_id, head ->> 'name', made);
    insert into dbml._model_files (model_id, path, digest)
    select its_id, f ->> 'path', decode(f ->> 'sha256', 'hex') from jsonb_array_elements(listed) f;
    return made;
end
$$;
comment on function dbml_channel._add_run_model_v1(uuid, jsonb) is
    'Register a model for a submitted run: bytes that the worker has kept, or artifacts of the run; returns the version.';

create or replace function dbml._find_run(run_id uuid, wanted text)
returns dbml._runs
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads a private table.  wanted is the right that the caller must have in the run's workspace: read or write.
as $$
declare
    found_run dbml._runs;
begin
    select * into found_run from dbml._runs r where r.run_id = _find_run.run_id;
    if found_run.run_id is null or not dbml_channel.may(found_run.workspace_id, 'read') then
        raise exception 'run % is not there', coalesce(run_id::text, 'NULL')
            using errcode = 'ML052', detail = jsonb_build_object('run_id', run_id),
                  hint = 'SELECT run_id, experiment, status FROM dbml.runs';
    end if;
    perform dbml_channel.require(found_run.workspace_id, wanted);
    return found_run;
end
$$;
comment on function dbml._find_run(uuid, text) is 'A run in whose workspace the caller has a right: read or write.';

create or replace function dbml_channel.hold_session()
returns bigint
language plpgsql volatile parallel unsafe security invoker
as $$
-- The key of this session: an advisory lock, shared, that goes when the session does.  A client that connects again sets
-- dbml.session to the key it had.
declare
    key bigint := nullif(current_setting('dbml.session', true), '')::bigint;
begin
    if key is null then
        key := hashtextextended('dbml session ' || gen_random_uuid(), 0);
        perform set_config('dbml.session', key::text, false);
    end if;
    if not exists (select from pg_locks l where l.pid = pg_backend_pid() and l.locktype = 'advisory' and l.objsubid = 1
                   and l.classid::bigint << 32 | l.objid::bigint = key) then
        perform pg_advisory_lock_shared(key);
    end if;
    return key;
end
$$;
comment on function dbml_channel.hold_session() is
    'The key under which this session''s runs are held to be alive, as long as the session lasts.';

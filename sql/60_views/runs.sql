create or replace view dbml.runs as
select r.run_id, r.workspace, r.experiment, r.parent_run_id,
       case when lost.since_then then 'interrupted' else r.status end as status, r.username, r.session_user_ as session_username,
       r.started_at, r.finished_at,
       extract(epoch from coalesce(r.finished_at, clock_timestamp()) - r.started_at)::double precision as seconds,
       r.language, r.script, r.script_sha256, r.params, r.inputs, r.rows_in, r.rows_out, r.peak_memory_mb, r.cpu_seconds,
       coalesce(r.log, (select string_agg(c.text, '' order by c.ordinal) from dbml._log_chunks c where c.run_id = r.run_id)) as log,
       case when lost.since_then and r.source = 'worker' then 'ML011' else r.sqlstate end as sqlstate,
       case when not lost.since_then then r.error
            when r.source = 'worker' then 'the worker has died or lost the database while the script ran, and is not back'
            else 'the program that started the run has ended or lost the database without finishing it' end as error,
       r.error_context, r.tags, r.properties,
       r.database, r.application, r.client_address, r.backend_pid, r.queued_seconds, r.stored_script, r.stored_version,
       r.environment, r.environment_version, r.lock_sha256, r.pool, r.options,
       r.name as display_name, r.source,
       case when r.source = 'client' then 'client' when r.script is null then 'child' else r.kind end as kind, encode(r.snapshot, 'hex') as snapshot, r.arguments,
       r.target, r.seed, r.software, r.replay_of, r.loaded, r.logged_params
from dbml._runs r
-- Its worker says how a run ended, or the next one that it was interrupted.  Until there is one, this does: a worker's
-- session holds this lock as long as it lasts ('dbmlwork' in ASCII, as in dbml/store/channel.py).  No worker connects to a standby.
-- A run that no worker has begun waits for one.  A client's run is alive as long as the session that started it.
cross join lateral (select r.finished_at is null and case r.source
    when 'worker' then (select not exists (select from pg_locks l
        where l.database = (select d.oid from pg_database d where d.datname = current_database()) and l.locktype = 'advisory'
          and l.granted and l.objsubid = 2 and l.classid = 1684172140 and l.objid = 2003792491)
        and not pg_is_in_recovery() and not exists (select from dbml._submissions s where s.run_id = r.run_id))
    else r.session_key is not null and not pg_is_in_recovery() and r.session_key not in (
        select l.classid::bigint << 32 | l.objid::bigint from pg_locks l
        where l.database = (select d.oid from pg_database d where d.datname = current_database()) and l.locktype = 'advisory'
          and l.granted and l.objsubid = 1)
    end as since_then) lost
where r.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.runs is
    'Every script that was run, recorded by the worker itself, also where it failed or was rolled back, and runs of dbml.start_run.';
comment on column dbml.runs.status is 'queued, running, completed, failed, canceled or interrupted: its worker, or the session that started it, is gone.';
comment on column dbml.runs.username is 'Who called: SET ROLE''s role, else the session''s.';
comment on column dbml.runs.inputs is 'The input queries by name, and the columns they had.';
comment on column dbml.runs.environment is 'The environment that it ran in; NULL is the worker''s own packages.';
comment on column dbml.runs.lock_sha256 is 'SHA-256 of the lock that it ran under, as in dbml.environments; NULL is the worker''s own packages.';
comment on column dbml.runs.seconds is 'From the request''s arrival to the end; so far, while it runs.';
comment on column dbml.runs.peak_memory_mb is 'The largest resident size of the script''s process.';
comment on column dbml.runs.log is 'What the script printed, its first and last half megabyte; of a submitted run all of it so far, while it runs.';
comment on column dbml.runs.kind is 'script: run by a call; submitted: handed over by dbml.submit_run; client: a program''s, by dbml.start_run; child: a part of parent_run_id that its script has begun.';
comment on column dbml.runs.script is 'The text of the script; of a submitted run its path in the snapshot.';
comment on column dbml.runs.snapshot is 'The files of a submitted run, as in dbml.snapshots.';
comment on column dbml.runs.arguments is 'The arguments of a submitted run; of a secret only that it was: {"$secret": true}.';
comment on column dbml.runs.target is 'Where a submitted run was sent: the name of a compute target; "worker" is this database''s own.';
comment on column dbml.runs.seed is 'The seed of random and numpy.random that it had.';
comment on column dbml.runs.software is 'What ran it: versions of dbml and of Python, and a digest of the worker''s own packages.';
comment on column dbml.runs.replay_of is 'The run that this one repeats, by dbml.replay.';
comment on column dbml.runs.error is 'The message of the error, its SQLSTATE in sqlstate, the script''s lines in error_context.';
comment on column dbml.runs.queued_seconds is 'How long it waited until the worker had room for it, part of seconds.';
comment on column dbml.runs.stored_script is 'The stored script that ran, its version in stored_version; NULL for a script given in the call.';
comment on column dbml.runs.params is 'The parameters as given; of one marked as a secret only that it was: {"$secret": true}.';
comment on column dbml.runs.pool is 'The resource pool that it ran in, or was refused.';
comment on column dbml.runs.options is 'The other arguments of the call that were given, and the limits that held.';
comment on column dbml.runs.loaded is 'The models that it loaded: as asked for, name, version, and SHA-256 of the bytes.';
comment on column dbml.runs.logged_params is 'Parameters that it has logged itself, by dbml.log_params or MLflow, beside those that it was given.';
comment on column dbml.runs.display_name is 'A name for people, as a client gave it.';
comment on column dbml.runs.source is 'worker: a script in the database''s worker; client: a program outside that called dbml.start_run.';

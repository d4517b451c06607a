create or replace view dbml.active_scripts as
select a.run_id, a.status, a.username, a.workspace, a.experiment, a.language, a.stored_script, a.script,
       a.started_at, a.seconds, a.queued_seconds, a.rows_in, a.rows_out, a.progress_done, a.progress_total,
       a.memory_mb, a.cpu_seconds, a.pool, a.environment, a.satellites, a.application, a.backend_pid,
       a.queue_position
from dbml_channel.ask('{"kind": "active"}') said,
     jsonb_to_record(said) a(run_id uuid, status text, username text, workspace text, experiment text, language text,
        stored_script text, script text, started_at timestamptz, seconds double precision, queued_seconds double precision,
        rows_in bigint, rows_out bigint, progress_done double precision, progress_total double precision,
        memory_mb double precision, cpu_seconds double precision, pool text, environment text, satellites integer[],
        application text, backend_pid integer, queue_position integer);
comment on view dbml.active_scripts is
    'Scripts that run or wait at this moment, as the worker answers. dbml.cancel_script(run_id) stops one.';
comment on column dbml.active_scripts.status is 'running, or queued while the worker, its pool or its role has no room for it.';
comment on column dbml.active_scripts.queued_seconds is 'How long it waited for its turn, or has waited so far.';
comment on column dbml.active_scripts.queue_position is 'When its turn comes, from 1, if no others ask meanwhile; NULL when it runs.';
comment on column dbml.active_scripts.pool is 'The resource pool, whose limits and concurrency hold.';
comment on column dbml.active_scripts.seconds is 'Since the request arrived.';
comment on column dbml.active_scripts.progress_done is 'What run.progress(done, total) told last.';
comment on column dbml.active_scripts.memory_mb is 'Resident memory of its processes now.';
comment on column dbml.active_scripts.satellites is 'Process ids on the worker''s host.';

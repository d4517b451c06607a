create or replace view dbml.worker_status as
select s.version, s.protocol, w.host, w.port, s.pid, to_timestamp(s.started_at) as started_at,
       extract(epoch from clock_timestamp())::double precision - s.started_at as seconds,
       s.running, s.queued, s.max_running, s.max_scripts, s.scorers, s.zygotes, s.memory_mb, s.sandbox
from dbml_channel.ask('{"kind": "ping"}') said,
     jsonb_to_record(said) s(version text, protocol integer, pid integer, started_at double precision, running integer,
        queued integer, max_running integer, max_scripts integer, scorers integer[], zygotes integer[], memory_mb double precision,
        sandbox jsonb),
     dbml._worker w;
comment on view dbml.worker_status is 'The worker, as it answers: version, address, scripts that run and wait, processes.';
comment on column dbml.worker_status.memory_mb is 'Resident memory of the process that listens and routes; those of scripts are in dbml.active_scripts.';
comment on column dbml.worker_status.sandbox is
    'What holds scripts and scorers, as a probe found it when the worker started: layer, its parts, and why a stronger one does not hold.';

create or replace view dbml.script_stats as
select r.script_sha256, r.language, r.environment, r.environment_version, r.username, r.stored_script, min(r.script) as script,
       count(*) as calls,
       count(*) filter (where r.status in ('failed', 'interrupted')) as errors,
       count(*) filter (where r.status = 'canceled') as canceled,
       percentile_cont(0.5) within group (order by t.seconds) as median_seconds,
       percentile_cont(0.95) within group (order by t.seconds) as p95_seconds,
       max(t.seconds) as max_seconds,
       percentile_cont(0.95) within group (order by r.queued_seconds) as p95_queued_seconds,
       sum(r.rows_in)::bigint as rows_in, sum(r.rows_out)::bigint as rows_out,
       max(r.peak_memory_mb) as peak_memory_mb, sum(r.cpu_seconds) as cpu_seconds,
       min(r.started_at) as first_run_at, max(r.started_at) as last_run_at, r.pool
from dbml._runs r
cross join lateral (select extract(epoch from r.finished_at - r.started_at)::double precision as seconds) t
where r.finished_at is not null and r.script_sha256 is not null
  and r.workspace_id = any (array(select dbml_channel.workspaces('read')))
group by r.script_sha256, r.language, r.environment, r.environment_version, r.username, r.stored_script, r.pool;
comment on view dbml.script_stats is
    'Finished scripts by text, language, environment, role and pool: how often, how long, how large; those that failed are counted too.';
comment on column dbml.script_stats.errors is 'Calls that failed, or whose worker went away.';
comment on column dbml.script_stats.median_seconds is 'Of the whole call, with the time in the queue.';

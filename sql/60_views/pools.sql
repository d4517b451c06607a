create or replace view dbml.pools as
select p.name::text as name, p.memory_mb, p.cpu_seconds, p.processes, p.scratch_mb, p.output_mb, p.timeout, p.concurrency, p.network,
       array(select g.grantee from dbml._pool_grants g where g.pool = p.name::text order by g.grantee) as granted_to,
       array(select g.grantee from dbml._pool_grants g where g.pool = p.name::text and g.is_default order by g.grantee) as default_of,
       coalesce(r.running, 0) as running, coalesce(r.queued, 0) as queued, p.created_at, p.created_by
from dbml._pools p
left join (select r.pool, count(*) filter (where r.status = 'running') as running, count(*) filter (where r.status = 'queued') as queued
           from dbml._runs r where r.finished_at is null group by r.pool) r on r.pool = p.name::text;
comment on view dbml.pools is 'Resource pools: limits of the scripts that run in them. dbml.create_pool makes one, dbml.grant_pool says who uses it.';
comment on column dbml.pools.memory_mb is 'NULL in this and the other limits is the worker''s own, in timeout and concurrency none.';
comment on column dbml.pools.concurrency is 'Scripts that run at once; each process of parallel => n counts.';
comment on column dbml.pools.granted_to is 'Roles that may use it beside administrators; members too.';
comment on column dbml.pools.default_of is 'Roles whose scripts run in it where they name no pool.';
comment on column dbml.pools.running is 'Scripts that run now, as dbml.runs has them; queued are those that wait.';

create or replace function dbml_channel._choose_pool(wanted text, caller text)
returns jsonb
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: called by definers only; reads the private tables of pools and rules.
-- The pool of a call with its limits, or {"refusal": ...}: the worker records the refusal, and raises it.
as $$
declare
    own text;
    pool dbml._pools;
begin
    own := coalesce((select g.pool from dbml._pool_grants g join dbml_channel._memberships(caller) m on m.role = g.grantee
                     where g.is_default order by m.steps, g.grantee limit 1), 'default');
    select * into pool from dbml._pools p where p.name::text = coalesce(wanted, own);
    if pool.name is null then
        return jsonb_build_object('refusal', jsonb_build_object(
            'sqlstate', 'ML060', 'message', format('there is no pool "%s"', wanted),
            'detail', jsonb_build_object('pool', wanted)::text, 'hint', 'SELECT name, granted_to FROM dbml.pools'));
    elsif not (pool.name::text = own or dbml_channel.is_administrator(caller)
               or exists (select from dbml._pool_grants g join dbml_channel._memberships(caller) m on m.role = g.grantee
                          where g.pool = pool.name::text)) then
        return jsonb_build_object('refusal', jsonb_build_object(
            'sqlstate', 'ML061', 'message', format('role %s may not use the pool "%s"', caller, pool.name),
            'detail', jsonb_build_object('pool', pool.name::text, 'role', caller, 'own', own)::text,
            'hint', format('leave pool out, which means "%s"; an administrator can run: SELECT dbml.grant_pool(%L, %L)',
                           own, pool.name::text, caller)));
    end if;
    return jsonb_build_object('pool', jsonb_build_object(
        'name', pool.name::text, 'memory_mb', pool.memory_mb, 'cpu_seconds', pool.cpu_seconds, 'processes', pool.processes,
        'scratch_mb', pool.scratch_mb, 'output_mb', pool.output_mb, 'timeout_s', extract(epoch from pool.timeout)::double precision,
        'concurrency', pool.concurrency, 'network', pool.network));
end
$$;
comment on function dbml_channel._choose_pool(text, text) is
    'The pool of a caller''s script with its limits: the one that it names, if it may, else the default of its role.';

create or replace function dbml_channel._memberships(role text)
returns table (role text, steps integer)
language sql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: as its callers.  Not pg_has_role, by which a superuser is a member of every role.
begin atomic
    with recursive up(id, steps) as (
        select r.oid, 0 from pg_roles r where r.rolname = _memberships.role
        union
        select m.roleid, up.steps + 1 from up join pg_auth_members m on m.member = up.id
    )
    select r.rolname::text, min(up.steps) from up join pg_roles r on r.oid = up.id group by r.rolname
    union all
    select 'public', 1000000;
end;
comment on function dbml_channel._memberships(text) is
    'A role, the roles that it is a member of, by how many steps, and last of all public.';

create or replace function dbml.create_pool(
    name        text,
    memory_mb   integer  default null,
    cpu_seconds integer  default null,
    processes   integer  default null,
    scratch_mb  integer  default null,
    output_mb   integer  default null,
    timeout     interval default null,
    concurrency integer  default null,
    network     boolean  default false)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table, for administrators.
as $$
declare
    pool dbml._pools;
begin
    perform dbml_channel._check_administrator('make pools');
    pool.name := create_pool.name;
    pool.memory_mb := create_pool.memory_mb;
    pool.cpu_seconds := create_pool.cpu_seconds;
    pool.processes := create_pool.processes;
    pool.scratch_mb := create_pool.scratch_mb;
    pool.output_mb := create_pool.output_mb;
    pool.timeout := create_pool.timeout;
    pool.concurrency := create_pool.concurrency;
    pool.network := create_pool.network;
    pool.created_at := now();
    pool.created_by := dbml_channel.caller();
    perform dbml_channel._check_pool(pool);
    insert into dbml._pools select pool.*;
exception
    when unique_violation then
        raise exception 'pool "%" exists', name using errcode = 'ML009', detail = jsonb_build_object('pool', name),
            hint = format('SELECT dbml.alter_pool(%L, ''{"memory_mb": 1024}'')', name);
    when check_violation or not_null_violation then
        raise exception 'a pool''s name must have 1 to 255 characters and none of : @ /, got %', coalesce(quote_literal(name), 'NULL')
            using errcode = 'ML009';
end
$$;
comment on function dbml.create_pool(text, integer, integer, integer, integer, integer, interval, integer, boolean) is
'Create a resource pool: limits for the scripts that run in it, and how many run at once.

NULL is the worker''s own limit, and for timeout and concurrency none. memory_mb, cpu_seconds, processes and scratch_mb
hold for a script with whatever processes it starts; a call with parallel => n has them n times, and takes n places of
concurrency, or as many as are free. A script over a limit is stopped with ML005, which names the limit, its value and
the pool; ML006 for timeout, which is also the default of calls that give none. network lets scripts reach the network.
Who uses which pool is said by dbml.grant_pool. For administrators: the owner of the schema and its members, and dbml_admin.
Errors: 42501 no administrator; ML009 the pool exists, or a limit is not more than zero.
Example: SELECT dbml.create_pool(''nightly'', memory_mb => 512, timeout => ''10 min'', concurrency => 2);
    SELECT dbml.delete_pool(''nightly'');';

create or replace function dbml_channel._check_administrator(what text)
returns void
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: called by definers only.
as $$
begin
    if not dbml_channel.is_administrator(dbml_channel.caller()) then
        raise insufficient_privilege using message = format('role %s may not %s', dbml_channel.caller(), what),
            hint = format('GRANT dbml_admin TO %I', dbml_channel.caller());
    end if;
end
$$;
comment on function dbml_channel._check_administrator(text) is 'Refuse a caller who does not administer dbml.';

create or replace function dbml_channel._check_pool(pool dbml._pools)
returns void
language plpgsql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    given record;
begin
    for given in
        select l.name, l.value from (values ('memory_mb', pool.memory_mb), ('cpu_seconds', pool.cpu_seconds),
            ('processes', pool.processes), ('scratch_mb', pool.scratch_mb), ('output_mb', pool.output_mb),
            ('concurrency', pool.concurrency)) l(name, value)
        where l.value <= 0
    loop
        raise exception '% must be more than zero, got %', given.name, given.value using errcode = 'ML009',
            detail = jsonb_build_object('argument', given.name, 'value', given.value),
            hint = 'NULL means the limit of the worker, or none';
    end loop;
    if pool.timeout <= interval '0' then
        raise exception 'timeout must be more than zero, got %', pool.timeout using errcode = 'ML009',
            detail = jsonb_build_object('argument', 'timeout', 'value', pool.timeout), hint = 'NULL means none';
    elsif pool.network is null then
        raise exception 'network must be true or false, got NULL' using errcode = 'ML009',
            detail = jsonb_build_object('argument', 'network', 'value', null);
    end if;
end
$$;
comment on function dbml_channel._check_pool(dbml._pools) is 'Refuse limits that make no sense.';

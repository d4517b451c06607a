create or replace function dbml.alter_pool(name text, changes jsonb)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table, for administrators.
as $$
declare
    known constant text[] := '{memory_mb,cpu_seconds,processes,scratch_mb,output_mb,timeout,concurrency,network}';
    unknown text;
    pool dbml._pools;
begin
    perform dbml_channel._check_administrator('change pools');
    if jsonb_typeof(changes) is distinct from 'object' then
        raise exception 'changes must be a JSON object of limits, got %', coalesce(changes::text, 'NULL') using errcode = 'ML009',
            hint = '''{"memory_mb": 1024, "timeout": null}''';
    end if;
    select k into unknown from jsonb_object_keys(changes) k where k <> all (known) order by k limit 1;
    if unknown is not null then
        raise exception 'a pool has no limit "%"', unknown using errcode = 'ML009',
            detail = jsonb_build_object('argument', unknown), hint = 'it has ' || array_to_string(known, ', ');
    end if;
    select * into pool from dbml._pools p where p.name::text = alter_pool.name for update;
    if pool.name is null then
        perform dbml_channel._no_pool(name);
    end if;
    begin
        pool := jsonb_populate_record(pool, changes);
    exception when data_exception then
        raise exception 'the changes are no limits of a pool: %', sqlerrm using errcode = 'ML009';
    end;
    perform dbml_channel._check_pool(pool);
    update dbml._pools p
    set (memory_mb, cpu_seconds, processes, scratch_mb, output_mb, timeout, concurrency, network)
      = (pool.memory_mb, pool.cpu_seconds, pool.processes, pool.scratch_mb, pool.output_mb, pool.timeout, pool.concurrency, pool.network)
    where p.name::text = alter_pool.name;
end
$$;
comment on function dbml.alter_pool(text, jsonb) is
'Change limits of a pool: those that changes names, null for the worker''s own or none; the others stay.

Scripts that run already keep the limits that they began with; concurrency holds at once for those that wait.
Errors: 42501 no administrator; ML009 no such limit, or one that is not more than zero; ML060 no such pool.
Example: SELECT dbml.create_pool(''nightly'', memory_mb => 512, timeout => ''10 min'');
    SELECT dbml.alter_pool(''nightly'', ''{"memory_mb": 1024, "timeout": null}'');
    SELECT dbml.delete_pool(''nightly'');';

create or replace function dbml_channel._no_pool(name text)
returns void
language plpgsql stable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'there is no pool "%"', name using errcode = 'ML060', detail = jsonb_build_object('pool', name),
        hint = 'SELECT name FROM dbml.pools';
end
$$;
comment on function dbml_channel._no_pool(text) is 'Raise that there is no such pool.';

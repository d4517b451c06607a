create or replace function dbml_channel.make_sources(inputs jsonb, workspace text)
returns jsonb
language plpgsql volatile parallel unsafe security invoker
-- Invoker: what it makes belongs to the caller.  The worker may execute it, and it runs as the caller: inside a security
-- definer function PostgreSQL lets nobody change roles.
as $$
declare
    named constant jsonb := dbml_channel.named_datasets(inputs);
    queries jsonb;
    input record; shape record;
    function_ text;
    read jsonb;
    sources jsonb := '[]';
    worker text;
begin
    if jsonb_typeof(coalesce(inputs, '{}')) <> 'object'
       or exists (select from jsonb_each(coalesce(inputs, '{}')) e where jsonb_typeof(e.value) <> 'string' and not named ? e.key) then
        raise exception 'inputs must be a JSON object of queries or datasets by name, got %', inputs
            using errcode = 'ML009', hint = 'inputs => ''{"train": "SELECT ...", "test": {"dataset": "iris:2"}}''';
    end if;
    queries := coalesce(inputs, '{}') || dbml_channel.queries_of(named, workspace);
    for input in select e.key as name, e.value #>> '{}' as query from jsonb_each(queries) e order by e.key loop
        if input.name !~ '^[[:alpha:]_][[:alnum:]_]*$' then
            raise exception 'an input''s name must be the name of a variable, got %', quote_literal(input.name) using errcode = 'ML009';
        end if;
        shape := dbml_channel.describe(input.query);
        read := dbml_channel.relations(input.query);
        if exists (select from jsonb_array_elements_text(read) r where r ~ '^pg_temp') then
            raise exception 'an input of a submitted run must not read temporary tables, "%" reads %', input.name, read
                using errcode = 'ML009', hint = 'they end with your session: CREATE TABLE, or dbml.run_script';
        elsif cardinality(shape.names) > (select count(distinct n) from unnest(shape.names) n) then
            raise exception 'an input''s columns must have different names, "%" has %', input.name, shape.names using errcode = 'ML009';
        end if;
        function_ := 'input_' || replace(gen_random_uuid()::text, '-', '');
        execute format('create function dbml_runtime.%I() returns table (%s) language sql stable parallel safe security definer set search_path = %s as %L',
            function_, (select string_agg(format('%I %s', n, t), ', ' order by o) from unnest(shape.names, shape.types) with ordinality u(n, t, o)),
            coalesce(nullif(current_setting('search_path'), ''), ''''''), dbml_channel.plain(input.query));
        execute format('revoke all on function dbml_runtime.%I() from public', function_);
        for worker in select r.rolname from pg_roles r where r.rolname = 'dbml_worker'
                          or r.oid = (select n.nspowner from pg_namespace n where n.nspname = 'dbml') loop
            execute format('grant execute on function dbml_runtime.%I() to %I', function_, worker);
        end loop;
        sources := sources || jsonb_build_array(
            jsonb_build_object('name', input.name, 'query', input.query, 'function', function_, 'relations', read,
                'columns', dbml_channel.columns(shape.names, shape.types, shape.kinds))
            || case when named ? input.name then jsonb_build_object('asked', named ->> input.name) else '{}' end);
    end loop;
    return sources;
end
$$;
comment on function dbml_channel.make_sources(jsonb, text) is
    'Put each query into a function of the caller, for the worker to execute later.';

create or replace function dbml_channel._check_inputs_v1(sources jsonb, caller text)
returns void
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: called by definers and by the worker.  Whoever names a function for the worker must be its owner, and it must run as that.
as $$
declare
    wrong text;
begin
    select coalesce(s ->> 'name', 'NULL') into wrong from jsonb_array_elements(sources) s
    where s ->> 'name' is null or not exists (
        select from pg_proc p
        where p.pronamespace = 'dbml_runtime'::regnamespace and p.proname = s ->> 'function' and p.pronargs = 0 and p.prosecdef
          and p.proowner = to_regrole(quote_ident(caller)) and p.prosrc = dbml_channel.plain(s ->> 'query'))
    limit 1;
    if wrong is not null then
        raise exception 'the query of the input "%" must be in a function of role %', wrong, caller using errcode = 'ML009',
            hint = 'dbml.submit_run makes it';
    end if;
end
$$;
comment on function dbml_channel._check_inputs_v1(jsonb, text) is 'Refuse functions that do not hold the queries, or do not run as the caller.';

create or replace function dbml_channel.without_functions(sources jsonb)
returns jsonb
language sql immutable parallel safe security invoker
begin atomic
    select coalesce(jsonb_agg(s - 'function' order by o), '[]') from jsonb_array_elements(sources) with ordinality u(s, o);
end;
comment on function dbml_channel.without_functions(jsonb) is 'Inputs as dbml.runs has them.';

create or replace function dbml_channel._sweep_inputs_v1(held text[])
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
-- Definer: drops what belongs to others, as the owner of the schema; for the worker, when runs are over.
as $$
declare
    left_ regprocedure;
    dropped integer := 0;
begin
    for left_ in
        select p.oid::regprocedure from pg_proc p
        where p.pronamespace = 'dbml_runtime'::regnamespace and p.proname ~ '^input_[0-9a-f]{32}$' and p.proname <> all (held)
          and not exists (select from dbml._submissions s, jsonb_array_elements(s.request::jsonb -> 'inputs') i
                          where i ->> 'function' = p.proname)
    loop
        begin
            execute format('drop function %s', left_);
            dropped := dropped + 1;
        exception when dependent_objects_still_exist or lock_not_available then
            null;   -- somebody uses what was not made for that: no reason to let other runs wait
        end;
    end loop;
    return dropped;
end
$$;
comment on function dbml_channel._sweep_inputs_v1(text[]) is
    'Drop the functions that hold queries of runs that are over: of none that waits, and none that is held.';

create or replace function dbml_channel.fetch_rows(rows_of refcursor, n integer)
returns setof record
language plpgsql volatile parallel unsafe security invoker
as $$
-- PL/pgSQL has no FETCH into a set, but RETURN QUERY takes one: the next n rows, no sort, no copy of the whole.
begin
    return query execute format('fetch %s from %I', n, rows_of);
end
$$;
comment on function dbml_channel.fetch_rows(refcursor, integer) is 'The next n rows of an open cursor, as a set.';

create or replace function dbml_channel.chunk_query(types text[], kinds text[], sent integer[], keep boolean)
returns text
language plpgsql stable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
-- The query that takes the next $2 rows of cursor $1 and answers one row: n, body (the sent columns
-- in lines of hex, nulls first; dbml.columns.decode holds the format) and, where the caller wants to
-- give the rows back beside their scores, rows: an array of records that ends with an ordinal.
declare
    utf8     constant boolean := current_setting('server_encoding') = 'UTF8';
    carried  text[] := '{}';   -- column as it travels, c3::text as v3
    lines    text[] := '{}';
    nulls    text[] := '{}';
    v text; body text; size text; kind text; i integer;
begin
    foreach i in array sent loop
        v := 'v' || i;
        kind := kinds[i];
        carried := carried || format(case
            when kind in ('text', 'numeric', 'json', 'jsonb') then 'c%1$s::text as v%1$s'
            when kind = 'textarray' then 'to_json(c%1$s::text[])::text as v%1$s'
            when kind like 'array:%%' or kind like 'array:%' then 'array_send(c%1$s) as v%1$s'
            else 'c%1$s as v%1$s' end, i);
        nulls := nulls || format($f$case when %s is null then '\x01'::bytea else '\x00'::bytea end$f$, v);
        if kind in ('bool', 'int2', 'int4', 'int8', 'float4', 'float8', 'oid', 'date', 'timestamp', 'timestamptz',
                    'time', 'timetz', 'interval', 'uuid') then
            lines := lines || format($f$string_agg(%s(%s), '')$f$, case kind
                when 'date' then 'date_send' when 'timestamp' then 'timestamp_send'
                when 'timestamptz' then 'timestamptz_send' when 'time' then 'time_send'
                when 'timetz' then 'timetz_send' when 'interval' then 'interval_send'
                when 'uuid' then 'uuid_send' else kind || 'send' end, v);
        elsif kind = 'bytea' or kind like 'array:%' then
            lines := lines || array[format($f$string_agg(int4send(octet_length(%s)), '')$f$, v),
                                    format($f$string_agg(%s, '')$f$, v)];
        else
            body := format($f$convert_to(%s, 'UTF8')$f$, v);
            size := case when utf8 then v else body end;
            lines := lines || array[format($f$string_agg(int4send(octet_length(%s)), '')$f$, size),
                                    format($f$string_agg(%s, '')$f$, body)];
        end if;
    end loop;
    return format($q$
        select count(*) as n, %s array_to_string(array[%s], E'\n') as body
        from (select %s %s source.ordinal as ordinal
              from rows from (dbml_channel.fetch_rows($1, $2) as (%s)) with ordinality as source(%s, ordinal)) r$q$,
        case when keep then 'array_agg(r.source) as rows,' else '' end,
        coalesce((select string_agg(format($f$coalesce(encode(%s, 'hex'), '')$f$, line), ', ' order by position)
         from unnest(format($f$string_agg(int4send((ordinal - 1)::int4) || %s, '') filter (where not (%s))$f$,
                            coalesce(nullif(array_to_string(nulls, ' || '), ''), $f$''::bytea$f$),
                            coalesce((select string_agg(format('v%s is not null', s), ' and ') from unnest(sent) s), 'true'))
                     || lines) with ordinality l(line, position)), ''),
        case when keep then 'source,' else '' end,
        coalesce(nullif(array_to_string(carried, ', '), '') || ',', ''),
        (select string_agg(format('c%s %s', p, t), ', ' order by p) from unnest(types) with ordinality u(t, p)),
        (select string_agg('c' || p, ', ' order by p) from generate_series(1, cardinality(types)) p));
end
$$;
comment on function dbml_channel.chunk_query(text[], text[], integer[], boolean) is
    'The query that turns the next rows of a cursor into one chunk for the worker.';

create or replace function dbml_channel.chunk_rows(kinds text[], sent integer[])
returns integer
language sql immutable parallel safe security invoker
begin atomic
    -- A small first chunk, so that the worker begins at once; next_chunk_rows makes the later ones larger.
    select greatest(16, least(4000, 120000 / greatest(1, coalesce(sum(
        case kinds[s] when 'bool' then 1 when 'int2' then 2 when 'int4' then 4 when 'float4' then 4 when 'date' then 4
                      when 'oid' then 4 when 'int8' then 8 when 'float8' then 8 when 'timestamp' then 8
                      when 'timestamptz' then 8 when 'time' then 8 when 'timetz' then 12 when 'interval' then 16
                      when 'uuid' then 16 else 40 end), 1)::integer)))
    from unnest(sent) s;
end;
comment on function dbml_channel.chunk_rows(text[], integer[]) is 'How many rows the first chunk takes.';

create or replace function dbml_channel.next_chunk_rows(n integer, body_length integer, kept boolean)
returns integer
language sql immutable parallel safe security invoker
begin atomic
    -- Each chunk is parsed, planned and sent for itself, 1 to 2 ms: up to 1.6 million characters that is little beside
    -- its rows.  Rows of varying width: the next chunk is steered back where one was twice that.
    select case
        when n = 0 then 16
        when body_length > 3200000 then greatest(1, (n * 1600000::bigint / body_length)::integer)
        when body_length < 800000 and n >= 16 then least(case when kept then 10000 else 20000 end, n * 2)
        else n end;
end;
comment on function dbml_channel.next_chunk_rows(integer, integer, boolean) is 'How many rows the next chunk takes.';

create or replace function dbml_channel.hold_memory()
returns void
language plpgsql volatile parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
-- The C library gives memory back at the end of a chunk, and takes it again, page fault by page fault, for the next: a
-- quarter of the backend's time.  Where it is glibc, having freed 8 MB once makes it keep 16 MB for the rest of the session.
begin
    perform length(repeat(' ', 8 * 1024 * 1024));
end
$$;
comment on function dbml_channel.hold_memory() is
    'Make the backend keep the memory of one chunk for the next: 1 to 2 ms, worth it from the second full chunk on.';

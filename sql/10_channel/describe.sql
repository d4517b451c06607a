create or replace function dbml_channel.describe(
    query text, out names text[], out types text[], out kinds text[])
language plpgsql volatile parallel unsafe security invoker
as $$
-- Names and types of a query's columns, without running it: it is planned under LIMIT 0, and its
-- row of nulls is asked.  The caller's search_path holds, as it does for the query itself.
declare
    source constant text := E'(select 1) one left join (select * from (' || dbml_channel.plain(query)
        || E'\n) query limit 0) query ';
    columns text;
begin
    if btrim(dbml_channel.plain(query)) = '' then
        raise exception 'a query must have text, got %', quote_literal(query) using errcode = 'ML009',
            hint = 'SELECT * FROM my_table, or TABLE my_table';
    end if;
    begin
        execute 'select array(select json_object_keys(row_to_json(shape))) from '
            || source || ' on true cross join lateral (select query.*) shape'
        into names;
    exception when syntax_error then
        raise exception '%', sqlerrm using errcode = 'syntax_error', detail = jsonb_build_object('query', query),
            hint = 'a query is one SELECT, VALUES, TABLE or WITH ... SELECT; of a table all rows are TABLE my_table';
    end;
    if cardinality(names) = 0 then
        raise exception 'a query must have a column at least' using errcode = 'ML009',
            detail = jsonb_build_object('query', query);
    elsif cardinality(names) > 1600 then
        raise exception 'a query can have 1600 columns at most, got %', cardinality(names)
            using errcode = 'ML005', detail = jsonb_build_object('limit', 'columns', 'value', 1600);
    end if;
    select string_agg('c' || i, ', ') into columns from generate_series(1, cardinality(names)) i;
    execute 'select array[' || (select string_agg(format('pg_typeof(query.c%s)::oid', i), ', ' order by i)
                                from generate_series(1, cardinality(names)) i)
        || ']::regtype[] from ' || source || '(' || columns || ') on true'
    into types;
    select array_agg(format_type(t::regtype, null) order by i), array_agg(dbml_channel.kind(t::regtype) order by i)
    into types, kinds from unnest(types) with ordinality u(t, i);
end
$$;
comment on function dbml_channel.describe(text) is 'Names, types and kinds of a query''s columns, found without running it.';

create or replace function dbml_channel.plain(query text)
returns text
language sql immutable parallel safe security invoker
begin atomic
    select regexp_replace(query, '[;[:space:]]+$', '');
end;
comment on function dbml_channel.plain(text) is 'A query without the semicolon at its end.';

create or replace function dbml_channel.columns(names text[], types text[], kinds text[])
returns jsonb
language sql immutable parallel safe security invoker
begin atomic
    select coalesce(jsonb_agg(jsonb_build_object('name', n, 'type', t, 'kind', k) order by i), '[]')
    from unnest(names, types, kinds) with ordinality u(n, t, k, i);
end;
comment on function dbml_channel.columns(text[], text[], text[]) is 'A list of columns as the worker reads it.';

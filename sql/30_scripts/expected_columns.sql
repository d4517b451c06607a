create or replace function dbml_channel.read_mismatch(
    detail text, by_type text, by_count text,
    out expected_type text, out at_column integer, out expected_count integer)
language plpgsql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
-- by_type, by_count: the same two messages in this server's language, with the type
-- dbml_channel.expected_column, at column 2, and the counts 3 and 7 in the places of interest.
declare
    pattern text;
    found_ text[];
begin
    pattern := regexp_replace(by_count, '([.\\+*?^${}()|\[\]])', '\\\1', 'g');
    found_ := regexp_match(detail, '^' || replace(replace(pattern, '3', '\d+'), '7', '(\d+)') || '$');
    if found_ is not null then
        expected_count := found_[1];
        return;
    end if;
    pattern := regexp_replace(by_type, '([.\\+*?^${}()|\[\]])', '\\\1', 'g');
    pattern := replace(pattern, 'dbml_channel\.unknown_column', '.+?');
    pattern := replace(pattern, 'dbml_channel\.expected_column', '(.+?)');
    pattern := replace(pattern, 'named_so', '.*');
    pattern := regexp_replace(pattern, '(\D)2(\D*)$', '\1(\\d+)\2');
    found_ := regexp_match(detail, '^' || pattern || '$');
    if found_ is not null then
        expected_type := found_[1];
        at_column := found_[2];
    end if;
end
$$;
comment on function dbml_channel.read_mismatch(text, text, text) is
    'Read what PostgreSQL says when a result does not fit a column list: the type it expected and where, or the count.';

create or replace function dbml_channel.mismatch_by(type_ boolean)
returns setof record
language plpgsql volatile parallel unsafe security invoker
as $$
begin
    if type_ then
        return query execute 'select null::integer, null::dbml_channel.unknown_column, null::integer where false';
    end if;
    return query execute 'select null::integer, null::integer, null::integer where false';
end
$$;
comment on function dbml_channel.mismatch_by(boolean) is 'Fail on purpose, to learn the wording of a mismatch in this server''s language.';

create or replace function dbml_channel.mismatch_words(out by_type text, out by_count text)
language plpgsql volatile parallel unsafe security invoker
as $$
begin
    begin
        perform * from dbml_channel.mismatch_by(true) as t(a integer, named_so dbml_channel.expected_column, b integer);
    exception when datatype_mismatch then
        get stacked diagnostics by_type = pg_exception_detail;
    end;
    begin
        perform * from dbml_channel.mismatch_by(false)
            as t(a integer, b integer, c integer, d integer, e integer, f integer, g integer);
    exception when datatype_mismatch then
        get stacked diagnostics by_count = pg_exception_detail;
    end;
end
$$;
comment on function dbml_channel.mismatch_words() is 'The wording of a mismatch in this server''s language.';

create or replace function dbml_channel.next_guess(detail text, inout guess text[], inout total integer, rest text[] default '{}')
language plpgsql volatile parallel unsafe security invoker
as $$
-- Nothing tells a PL/pgSQL function the column list of its call, but a result that does not fit is
-- refused with the type that was expected: guess, read, guess again.  A run of one type costs one guess.
declare
    said record;
    words record;
begin
    said := dbml_channel.read_mismatch(detail,
        case when detail like '%(position %' then
            'Returned type dbml_channel.unknown_column does not match expected type dbml_channel.expected_column in column "named_so" (position 2).'
        else 'Returned type dbml_channel.unknown_column does not match expected type dbml_channel.expected_column in column 2.' end,
        'Number of returned columns (3) does not match expected column count (7).');
    if said.expected_type is null and said.expected_count is null then
        words := dbml_channel.mismatch_words();
        said := dbml_channel.read_mismatch(detail, words.by_type, words.by_count);
    end if;
    if said.expected_count is not null then
        total := said.expected_count;
        guess := guess[1:total];
    elsif said.expected_type is not null then
        guess := guess[1 : said.at_column - 1] || said.expected_type;
    else
        raise exception 'cannot read the column list of this call from: %', detail using errcode = 'ML007',
            hint = 'use dbml.run_script_json, which needs no column list';
    end if;
    -- What is not yet known: as the caller supposes, else the last type once more.
    guess := guess || rest[cardinality(guess) + 1 : total];
    if cardinality(guess) < total then
        guess := guess || array_fill(guess[cardinality(guess)], array[total - cardinality(guess)]);
    end if;
end
$$;
comment on function dbml_channel.next_guess(text, text[], integer, text[]) is 'The next guess at a call''s column list, from PostgreSQL''s answer to the last.';

create or replace function dbml_channel.null_row(types text[])
returns text
language sql immutable parallel safe security invoker
begin atomic
    select 'select ' || string_agg('null::' || t, ', ' order by i) || ' where false' from unnest(types) with ordinality u(t, i);
end;
comment on function dbml_channel.null_row(text[]) is 'A query without rows that has columns of these types.';

create or replace function dbml_channel.expected(types text[])
returns jsonb
language sql stable parallel safe security invoker
begin atomic
    select jsonb_agg(jsonb_build_object('name', 'column ' || i, 'type', t, 'kind', dbml_channel.kind(t::regtype)) order by i)
    from unnest(types) with ordinality u(t, i);
end;
comment on function dbml_channel.expected(text[]) is 'A call''s column list as the worker reads it.';

create or replace function dbml_channel.give_columns(types text[])
returns text
language sql stable parallel safe security invoker
begin atomic
    -- $1: one array literal a column.  Numbers are read as what they are, all else from its text.
    select format('select %s from unnest(%s) as given(%s)',
        string_agg(case when fast then 'c' || i else format('c%s::%s', i, t) end, ', ' order by i),
        string_agg(format('$1[%s]::%s[]', i, case when fast then t else 'text' end), ', ' order by i),
        string_agg('c' || i, ', ' order by i))
    from (select i, t, dbml_channel.kind(t::regtype) in ('bool', 'int2', 'int4', 'int8', 'float4', 'float8')
                       and t::regtype in ('bool'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype,
                                          'float4'::regtype, 'float8'::regtype) as fast
          from unnest(types) with ordinality u(t, i)) typed;
end;
comment on function dbml_channel.give_columns(text[]) is 'The query that turns array literals, one a column, into typed rows.';

create or replace function dbml.profile(
    input_query   text               default null,
    dataset       text               default null,
    probabilities double precision[] default '{0.01,0.05,0.25,0.5,0.75,0.95,0.99}',
    workspace     text               default null)
returns table (column_name text, type text, count bigint, missing bigint, nan bigint, infinite bigint, distinct_values bigint,
               min text, max text, mean double precision, std double precision, quantiles jsonb)
language plpgsql stable parallel unsafe security invoker
-- Stable: all its statements see one snapshot, the caller's.  Many aggregates over few rows: compiling them takes longer.
set jit = off
as $$
declare
    rows_ constant text := dbml_channel.rows_of(input_query, dataset, workspace, 'input_query and dataset');
    at_once constant integer := 40;   -- columns a statement; each of its plans holds some thousand nodes
    shape record;
    numbers integer[];
    found_ jsonb[];
    names text;
begin
    if probabilities is null or array_position(probabilities, null) is not null
       or exists (select from unnest(probabilities) p where p not between 0 and 1) then
        raise exception 'probabilities must be 0 to 1, got %', coalesce(probabilities::text, 'NULL') using errcode = 'ML009',
            hint = 'probabilities => ''{0.25,0.5,0.75}''';
    end if;
    shape := dbml_channel.describe(rows_);
    select string_agg('c' || i, ', ' order by i) into names from generate_series(1, cardinality(shape.names)) i;
    for i in 0 .. (cardinality(shape.names) - 1) / at_once loop
        numbers := array(select n from generate_series(i * at_once + 1, least((i + 1) * at_once, cardinality(shape.names))) n);
        begin
            execute dbml_channel.profile_statement(rows_, names, shape.types, shape.kinds, numbers, false)
            into found_ using probabilities;
        exception when numeric_value_out_of_range then
            -- A sum left double precision.  Exact, and slower.
            execute dbml_channel.profile_statement(rows_, names, shape.types, shape.kinds, numbers, true)
            into found_ using probabilities;
        end;
        return query
            select shape.names[n.number], shape.types[n.number], (f.found ->> 'count')::bigint, (f.found ->> 'missing')::bigint,
                   (f.found ->> 'nan')::bigint, (f.found ->> 'infinite')::bigint, (f.found ->> 'distinct')::bigint,
                   f.found ->> 'min', f.found ->> 'max', nullif(abs(dbml_channel.double((f.found ->> 'mean')::numeric)), 'Infinity') * sign((f.found ->> 'mean')::numeric)::float8,
                   nullif(dbml_channel.double((f.found ->> 'std')::numeric), 'Infinity'),
                   (select jsonb_object_agg(p.probability, f.found -> 'quantiles' -> (p.place::integer - 1))
                    from unnest(probabilities) with ordinality p(probability, place)
                    where jsonb_typeof(f.found -> 'quantiles') = 'array')
            from unnest(numbers, found_) with ordinality n(number, found, place), lateral (select n.found) f(found)
            order by n.place;
    end loop;
end
$$;
comment on function dbml.profile(text, text, double precision[], text) is
'Profile a query or a dataset: a row a column, with counts, extremes, mean, standard deviation, quantiles and distinct values.

It runs in your session, as you, on one snapshot. count is the rows, missing those that are NULL; nan and infinite count
values that are no numbers to reckon with. distinct_values leaves out NULL; NaN is one value. min and max leave out NULL
and NaN, and are the type''s own text (dates as ISO 8601, text in the order of its bytes). mean, std (of a sample, n - 1)
and quantiles are of the finite values: of numbers, interpolated as numpy.quantile does; of dates and times a value that
is there. Of booleans mean is the share of true. What has no order (json, arrays, bytea) is counted alone.
The query is read once for every 40 columns. Statistics that do not fit double precision are NULL.
Errors: ML009 no query, or bad probabilities; ML070 no such dataset; ML030 a dataset made of files.
Example: SELECT column_name, missing, min, max, round(mean::numeric, 3) AS mean FROM dbml.profile(''SELECT * FROM demo.iris'');';

create or replace function dbml_channel.profile_statement(
    rows_ text, names text, types text[], kinds text[], numbers integer[], exact boolean)
returns text
language sql stable parallel safe security invoker
set search_path = pg_catalog, pg_temp
begin atomic
    select format(E'select array[%s] from (%s\n) q(%s)', string_agg(e.expression, ', ' order by e.place), rows_, names)
    from (
        select n.place, format($f$pg_catalog.jsonb_build_object('count', count(*), 'missing', count(*) - count(%1$s), %2$s)$f$,
            'c' || n.number, replace(replace(case dbml_channel.statistics_kind(types[n.number], kinds[n.number])
                when 'integer' then $f$
                    'nan', 0, 'infinite', 0, 'distinct', count(distinct #), 'min', min(#)::text, 'max', max(#)::text,
                    'mean', avg(#::int8), 'std', stddev_samp(#::int8),
                    'quantiles', pg_catalog.to_jsonb(percentile_cont($1) within group (order by #::int8::float8))$f$
                when 'float' then $f$
                    'nan', count(*) filter (where # = 'NaN'), 'infinite', count(*) filter (where # in ('Infinity', '-Infinity')),
                    'distinct', count(distinct #), 'min', (min(#) filter (where # <> 'NaN'))::text, 'max', (max(#) filter (where # <> 'NaN'))::text,
                    'mean', avg(@) filter (where # not in ('NaN', 'Infinity', '-Infinity')),
                    'std', stddev_samp(@) filter (where # not in ('NaN', 'Infinity', '-Infinity')),
                    'quantiles', pg_catalog.to_jsonb(percentile_cont($1) within group (order by #::float8)
                        filter (where # not in ('NaN', 'Infinity', '-Infinity')))$f$
                when 'numeric' then $f$
                    'nan', count(*) filter (where # = 'NaN'), 'infinite', count(*) filter (where # in ('Infinity', '-Infinity')),
                    'distinct', count(distinct #), 'min', (min(#) filter (where # <> 'NaN'))::text, 'max', (max(#) filter (where # <> 'NaN'))::text,
                    'mean', avg(#) filter (where # not in ('NaN', 'Infinity', '-Infinity')),
                    'std', stddev_samp(#) filter (where # not in ('NaN', 'Infinity', '-Infinity')),
                    'quantiles', pg_catalog.to_jsonb(percentile_cont($1) within group (order by dbml_channel.double(#))
                        filter (where # not in ('NaN', 'Infinity', '-Infinity')))$f$
                when 'boolean' then $f$
                    'distinct', count(distinct #), 'min', bool_and(#)::text, 'max', bool_or(#)::text,
                    'mean', avg(#::int4::float8), 'std', stddev_samp(#::int4::float8)$f$
                when 'moment' then $f$
                    'infinite', count(*) filter (where not isfinite(#)), 'distinct', count(distinct #),
                    'min', pg_catalog.to_jsonb(min(#)), 'max', pg_catalog.to_jsonb(max(#)),
                    'quantiles', pg_catalog.to_jsonb(percentile_disc($1) within group (order by #) filter (where isfinite(#)))$f$
                when 'span' then $f$
                    'distinct', count(distinct #), 'min', min(#)::text, 'max', max(#)::text,
                    'quantiles', pg_catalog.to_jsonb(percentile_disc($1) within group (order by #))$f$
                when 'text' then $f$
                    'distinct', count(distinct #::text collate "C"), 'min', min(#::text collate "C"), 'max', max(#::text collate "C")$f$
                else $f$
                    'distinct', count(distinct #::text collate "C")$f$
            end, '@', case when exact then '(#::float8)::numeric' else '#::float8' end), '#', 'c' || n.number)) as expression
        from unnest(numbers) with ordinality n(number, place)) e;
end;
comment on function dbml_channel.profile_statement(text, text, text[], text[], integer[], boolean) is
    'The statement that sums up some columns of a query: an array with a JSON object for each.';

create or replace function dbml.data_drift(
    reference_query   text    default null,
    input_query       text    default null,
    reference_dataset text    default null,
    dataset           text    default null,
    bins              integer default 10,
    workspace         text    default null)
returns table (column_name text, change text, reference_type text, type text, reference_count bigint, count bigint,
               reference_missing double precision, missing double precision, psi double precision, ks double precision,
               ks_p double precision, appeared text[], vanished text[])
language plpgsql stable parallel unsafe security invoker
-- Stable: all its statements see one snapshot, the caller's.
set jit = off
as $$
declare
    before_ constant text := dbml_channel.rows_of(reference_query, reference_dataset, workspace, 'reference_query and reference_dataset');
    after_ constant text := dbml_channel.rows_of(input_query, dataset, workspace, 'input_query and dataset');
    at_once constant integer := 40;
    old record; new record;
    pair record;
    column_count integer;
begin
    if bins is null or bins not between 2 and 1000 then
        raise exception 'bins must be 2 to 1000, got %', coalesce(bins::text, 'NULL') using errcode = 'ML009';
    end if;
    old := dbml_channel.describe(before_);
    new := dbml_channel.describe(after_);
    perform dbml_channel.names_are_distinct(old.names), dbml_channel.names_are_distinct(new.names);
    -- A column a row, those of the reference first; how they are compared says drift_kind.
    select array_agg(coalesce(o.name, n.name) order by o.place, n.place) as names,
           array_agg(o.place::integer order by o.place, n.place) as old_places,
           array_agg(n.place::integer order by o.place, n.place) as new_places,
           array_agg(o.type order by o.place, n.place) as old_types, array_agg(n.type order by o.place, n.place) as new_types,
           array_agg(dbml_channel.drift_kind(o.type, o.kind, n.type, n.kind) order by o.place, n.place) as kinds
    into pair
    from unnest(old.names, old.types, old.kinds) with ordinality o(name, type, kind, place)
    full join unnest(new.names, new.types, new.kinds) with ordinality n(name, type, kind, place) on o.name = n.name;
    column_count := cardinality(pair.names);
    for i in 0 .. (column_count - 1) / at_once loop
        return query execute dbml_channel.drift_statement(before_, after_, cardinality(old.names), cardinality(new.names),
            pair.names, pair.old_places, pair.new_places, pair.old_types, pair.new_types, pair.kinds,
            i * at_once + 1, least((i + 1) * at_once, column_count)) using bins;
    end loop;
end
$$;
comment on function dbml.data_drift(text, text, text, text, integer, text) is
'Compare the columns of two queries or datasets, a row a column: what became of it, and how far its values have drifted.

change is same, added, dropped or type changed. missing is the share of NULL and NaN, which the other figures leave out.
psi is the population stability index, the sum over bins of (q - p) ln(q / p), where p is a bin''s share of the reference
and q of the other, and a share of 0 counts as 0.0001 (N. Siddiqi, Credit Risk Scorecards, 2006). Numbers, dates and times fall into
bins cut at the reference''s quantiles i / bins, which are values that are there (percentile_disc); a value at a cut is of the
bin above it. Of text and booleans a category is a bin. Customary reading: below 0.1 little, above 0.25 much.
ks is the two-sample Kolmogorov-Smirnov statistic of numbers, dates and times, the largest distance of the two empirical
distribution functions; ks_p its probability under equal distributions by the limiting distribution, 2 sum (-1)^(j-1)
exp(-2 j^2 (ks sqrt(n m / (n + m)))^2) (A. Kolmogorov, 1933), good from some 50 rows each. Numbers are compared as double precision.
appeared and vanished are categories that one side alone has, the 20 most frequent.
Figures are NULL where a side has no value, or the two types do not compare.
Errors: ML009 a query is missing, has a column name twice, or bins are out of range; ML070 no such dataset; ML030 a dataset of files.
Example: SELECT column_name, change, round(psi::numeric, 2) AS psi FROM dbml.data_drift(
    ''SELECT * FROM demo.iris WHERE species_id = 0'', ''SELECT * FROM demo.iris WHERE species_id > 0'');';

create or replace function dbml_channel.names_are_distinct(names text[])
returns boolean
language plpgsql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    twice text := (select n from unnest(names) n group by n having count(*) > 1 limit 1);
begin
    if twice is not null then
        raise exception 'columns are compared by name, and "%" is there twice', twice using errcode = 'ML009';
    end if;
    return true;
end
$$;
comment on function dbml_channel.names_are_distinct(text[]) is 'True, or an error where a name is there twice.';

create or replace function dbml_channel.drift_kind(reference_type text, reference_kind text, type text, kind text)
returns text
language sql stable parallel safe security invoker
begin atomic
    -- number: as double precision; category: by its text; NULL: nothing to compare.
    with f as (
        select dbml_channel.statistics_kind(reference_type, reference_kind) as before_,
               dbml_channel.statistics_kind(type, kind) as after_)
    select case when reference_type is null or type is null then null
                when before_ in ('integer', 'float', 'numeric') and after_ in ('integer', 'float', 'numeric') then 'number'
                when before_ in ('moment', 'span') and before_ = after_ then 'number'
                when before_ = after_ and before_ in ('text', 'boolean', 'other') then 'category' end
    from f;
end;
comment on function dbml_channel.drift_kind(text, text, text, text) is 'How the values of two columns are compared.';

create or replace function dbml_channel.drift_value(number text, type text, kind text)
returns text
language sql stable parallel safe security invoker
set search_path = pg_catalog, pg_temp
begin atomic
    -- The expression of a column's value, number or text.
    select case
        when kind = 'category' then format('null::float8, %s::text collate "C"', number)
        when kind is null then format($f$null::float8, case when %s is not null then '' end$f$, number)
        when type like 'numeric%' then format('dbml_channel.double(%s::numeric), null::text', number)
        when type ~ '^(date|timestamp|time|interval)' then format('extract(epoch from %s)::float8, null::text', number)
        else format('%s::float8, null::text', number) end;
end;
comment on function dbml_channel.drift_value(text, text, text) is 'A column as a number and a text, of which one is NULL.';

create or replace function dbml_channel.drift_statement(
    before_ text, after_ text, old_width integer, new_width integer, names text[], old_places integer[], new_places integer[],
    old_types text[], new_types text[], kinds text[], first_ integer, last_ integer)
returns text
language plpgsql stable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    old_values text; new_values text;
    described text;
begin
    select string_agg(format('(%s, %s)', i, dbml_channel.drift_value('c' || old_places[i], old_types[i], kinds[i])), ', ' order by i)
               filter (where old_places[i] is not null),
           string_agg(format('(%s, %s)', i, dbml_channel.drift_value('c' || new_places[i], new_types[i], kinds[i])), ', ' order by i)
               filter (where new_places[i] is not null),
           string_agg(format('(%s, %L, %L, %L, %L)', i, names[i], old_types[i], new_types[i], kinds[i]), ', ' order by i)
    into old_values, new_values, described
    from generate_series(first_, last_) i;
    return format($q$
with source as (
    %1$s
    union all
    %2$s),
-- Every value with how often each side has it; NULL and NaN apart.  Counts as double precision are exact, and faster summed.
counted as (
    select k, x, t, (count(*) filter (where not after_))::float8 as p, (count(*) filter (where after_))::float8 as q,
           coalesce(x = 'NaN', t is null) as is_missing
    from source group by k, x, t),
sizes as (
    select k, sum(p) as p_rows, sum(q) as q_rows, sum(p) filter (where is_missing) as p_missing, sum(q) filter (where is_missing) as q_missing,
           nullif(sum(p) filter (where not is_missing), 0) as p_values, nullif(sum(q) filter (where not is_missing), 0) as q_values
    from counted group by k),
present as (
    select k, x, t, p, q, sum(p) over w as p_sum, sum(q) over w as q_sum
    from counted where not is_missing window w as (partition by k order by x, t)),
-- The value where the reference's share reaches i / bins, for i below bins, in whole numbers.
cuts as (
    select n.k, array_agg(n.x order by n.x) filter (where least(floor($1 * n.p_sum / s.p_values), $1 - 1) > floor($1 * (n.p_sum - n.p) / s.p_values)) as cuts
    from present n join sizes s using (k) where n.x is not null and s.p_values > 0 group by n.k),
binned as (
    select b.k, coalesce(nullif(sum(b.p), 0) / max(s.p_values), 0.0001) as p,
           coalesce(nullif(sum(b.q), 0) / max(s.q_values), 0.0001) as q
    from (select n.k, width_bucket(n.x, c.cuts) as bin, null as category, n.p, n.q from present n join cuts c using (k) where n.x is not null
          union all select n.k, null, n.t, n.p, n.q from present n where n.t is not null) b
    join sizes s using (k)
    where s.p_values > 0 and s.q_values > 0
    group by b.k, b.bin, b.category),
stability as (select k, sum((q - p) * ln(q / p)) as psi from binned group by k),
distance as (
    select n.k, max(abs(n.p_sum * s.q_values - n.q_sum * s.p_values) / (s.p_values * s.q_values)) as ks,
           sqrt(max(s.p_values) * max(s.q_values) / (max(s.p_values) + max(s.q_values))) as scale
    from present n join sizes s using (k) where n.x is not null group by n.k),
onesided as (select k, t, p, q, row_number() over (partition by k, p = 0 order by p + q desc, t) as place from present where t is not null and (p = 0 or q = 0))
select d.name::text,
       case when d.old_type is null then 'added' when d.new_type is null then 'dropped'
            when d.old_type <> d.new_type then 'type changed' else 'same' end,
       d.old_type::text, d.new_type::text,
       case when d.old_type is not null then coalesce(s.p_rows, 0)::bigint end, case when d.new_type is not null then coalesce(s.q_rows, 0)::bigint end,
       case when d.old_type is not null then coalesce(s.p_missing, 0) / nullif(s.p_rows, 0) end,
       case when d.new_type is not null then coalesce(s.q_missing, 0) / nullif(s.q_rows, 0) end,
       case when d.kind is not null then y.psi end, z.ks, dbml_channel.kolmogorov(z.ks * z.scale),
       case when d.kind = 'category' then array(select n.t from onesided n where n.k = d.k and n.p = 0 and n.place <= 20 order by n.place) end,
       case when d.kind = 'category' then array(select n.t from onesided n where n.k = d.k and n.q = 0 and n.place <= 20 order by n.place) end
from (values %3$s) d(k, name, old_type, new_type, kind)
left join sizes s using (k) left join stability y using (k) left join distance z using (k)
order by d.k$q$,
        dbml_channel.drift_side(before_, old_width, old_values, false), dbml_channel.drift_side(after_, new_width, new_values, true),
        described);
end
$$;
comment on function dbml_channel.drift_statement(text, text, integer, integer, text[], integer[], integer[], text[], text[], text[],
    integer, integer) is 'The statement that compares the columns from first_ to last_ of two queries.';

create or replace function dbml_channel.drift_side(rows_ text, width integer, values_ text, after_ boolean)
returns text
language sql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
begin atomic
    select case when values_ is null then format('select 0 as k, null::float8 as x, null::text as t, %s as after_ where false', after_::text)
        else format(E'select v.k, v.x, v.t, %s as after_ from (%s\n) r(%s) cross join lateral (values %s) v(k, x, t)', after_::text, rows_,
            (select string_agg('c' || i, ', ' order by i) from generate_series(1, width) i), values_) end;
end;
comment on function dbml_channel.drift_side(text, integer, text, boolean) is 'The values of some columns of a query, a row a value.';

create or replace function dbml_channel.kolmogorov(x double precision)
returns double precision
language sql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
begin atomic
    -- The probability that the limiting distribution exceeds x.  Below 0.18 it is 1 but for 1e-16, and the sum would need many terms.
    select case when x < 0.18 then 1
        else least(1, greatest(0, (select 2 * sum(case when j % 2 = 1 then 1 else -1 end * case when 2 * j * j * x * x < 700
                                                      then exp(-2 * j * j * x * x) else 0 end)
                                   from generate_series(1, 100) j))) end
    where x is not null;
end;
comment on function dbml_channel.kolmogorov(double precision) is
    'The probability of a distance beyond x in Kolmogorov''s limiting distribution.';

create or replace function dbml_channel.rows_of(input_query text, dataset text, workspace text, arguments text)
returns text
language plpgsql stable parallel restricted security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if num_nonnulls(input_query, dataset) <> 1 then
        raise exception 'one of % must be given, got %', arguments, case when dataset is null then 'none' else 'both' end
            using errcode = 'ML009', hint = 'SELECT * FROM dbml.profile(''SELECT * FROM demo.iris'')';
    end if;
    return coalesce(dbml_channel.plain(input_query), dbml.dataset_query(dataset, workspace));
end
$$;
comment on function dbml_channel.rows_of(text, text, text, text) is 'The query that was given, or the one of the dataset that was.';

create or replace function dbml_channel.statistics_kind(type text, kind text)
returns text
language sql stable parallel safe security invoker
begin atomic
    -- How a column is summed up.  Domains are as what they are domains of: kind looks through them.
    select case
        when kind in ('int2', 'int4', 'int8', 'oid') then 'integer'
        when kind in ('float4', 'float8') then 'float'
        when kind = 'numeric' then 'numeric'
        when kind = 'bool' then 'boolean'
        when kind in ('date', 'timestamp', 'timestamptz') then 'moment'
        when kind in ('time', 'interval') then 'span'
        when kind = 'text' and type = 'money' or kind in ('json', 'jsonb', 'bytea', 'timetz', 'textarray') or kind like 'array:%' then 'other'
        else 'text' end;
end;
comment on function dbml_channel.statistics_kind(text, text) is
    'How a column of a type is summed up: integer, float, numeric, boolean, moment, span, text or other.';

create or replace function dbml_channel.double(value numeric)
returns double precision
language sql immutable parallel safe security invoker
begin atomic
    -- A cast refuses what double precision cannot hold: here what is too large is infinite, and what is too small is 0.
    select case when value in ('NaN', 'Infinity', '-Infinity') or value = 0 then value::double precision
                when abs(value) > 1.7976931348623157e308 then sign(value)::double precision * 'Infinity'
                when abs(value) < 1e-307 then 0 else value::double precision end;
end;
comment on function dbml_channel.double(numeric) is 'A number as double precision, infinite where it is too large.';

create or replace function dbml.predict_into(model text, input_query text, target text, mode text default 'create', engine text default null)
returns bigint
language plpgsql volatile parallel unsafe security invoker
-- Invoker: the target is made and written with the caller's rights.
as $$
declare
    shape record;
    predicted text;
    place text;
    written bigint;
    compiled record;
    scored text;
begin
    if mode is null or mode not in ('create', 'append', 'replace') then
        raise exception 'mode must be ''create'', ''append'' or ''replace'', got %', coalesce(quote_literal(mode), 'NULL')
            using errcode = 'ML009';
    elsif target is null or btrim(target) = '' then
        raise exception 'target must name a table, got %', coalesce(quote_literal(target), 'NULL') using errcode = 'ML009';
    end if;
    shape := dbml_channel.describe(input_query);
    if 'prediction' = any (shape.names) then
        raise exception 'the query has a column "prediction" already' using errcode = 'ML009',
            hint = 'give it another name: SELECT ..., prediction AS former_prediction ...';
    elsif cardinality(shape.names) >= 1600 then
        raise exception 'a table can have 1600 columns at most, got % and the prediction', cardinality(shape.names)
            using errcode = 'ML005', detail = '{"limit": "columns", "value": 1600}';
    end if;
    compiled := dbml_channel.score_call(model, engine, shape.names, shape.types, shape.kinds);
    predicted := coalesce(compiled.type, dbml_channel.prediction_type(compiled.version, null));
    select string_agg(quote_ident(part), '.') into place from unnest(parse_ident(target)) part;
    if compiled.expression is not null then
        scored := dbml_channel.scored_rows(input_query, compiled.expression, shape.types, format('%s, %s as prediction',
            (select string_agg(format('scored.c%s::%s as %I', i, t, n), ', ' order by i) from unnest(shape.names, shape.types) with ordinality u(n, t, i)),
            dbml_channel.scored_value(compiled.type, compiled.type, compiled.ask)));
        for attempt in 1 .. 2 loop
        begin
            if mode = 'create' or mode = 'replace' and to_regclass(place) is null then
                return dbml_channel.write_scored(format('create table %s as %s', place, scored), attempt = 2);
            elsif mode = 'replace' then
                execute format('truncate %s', place);
            end if;
            return dbml_channel.write_scored(format('insert into %s (%s, prediction) %s', place,
                (select string_agg(quote_ident(n), ', ' order by i) from unnest(shape.names) with ordinality u(n, i)), scored), attempt = 2);
        exception when invalid_transaction_state or data_exception or sqlstate 'MLX01' then
            -- Of the first: a row is for the model, in a parallel plan.  Else the model scores all, or says what is wrong with them.
            exit when sqlstate <> '25000';
        end;
        end loop;
    end if;
    if mode = 'create' or (mode = 'replace' and to_regclass(place) is null) then
        execute format('create table %s (%s)', place,
            (select string_agg(format('%I %s', n, t), ', ' order by i)
             from unnest(shape.names || 'prediction'::text, shape.types || predicted) with ordinality u(n, t, i)));
    elsif mode = 'replace' then
        execute format('truncate %s', place);
    end if;
    execute format('select * from dbml_channel.score_query($1, null, $2, $3, $4, $5, $6, %L, %L, true, %L) as t(written bigint)', 'predict',
        format('insert into %s (%s, prediction) select %s, prediction::%s from %s', place,
            (select string_agg(quote_ident(n), ', ' order by i) from unnest(shape.names) with ordinality u(n, i)),
            (select string_agg('c' || i, ', ' order by i) from generate_series(1, cardinality(shape.names)) i),
            predicted, dbml_channel.scored_source(shape.types, predicted)), engine)
        into written
        using compiled.version, shape.names, shape.types, shape.kinds, input_query,
              jsonb_build_object('name', 'prediction', 'type', predicted, 'kind', dbml_channel.kind(predicted::regtype));
    return written;
end
$$;
comment on function dbml.predict_into(text, text, text, text, text) is
'Score a query''s rows into a table: the query''s columns, then prediction; returns the number of rows written.

mode ''create'' makes the table, ''append'' adds to it by column name, ''replace'' empties it first (or makes it).
The query is read, scored and written chunk by chunk, in your transaction.
Errors: as dbml.predict over a query; 42P07 where the table exists; ML009 for another mode.
Example: SELECT dbml.predict_into(''demo-iris'', ''SELECT * FROM demo.iris'', ''demo.iris_scored'');';

create or replace function dbml_channel.write_scored(statement text, alone boolean)
returns bigint
language plpgsql volatile parallel unsafe security invoker
set jit = off
as $$
declare
    former constant text := dbml_channel.scoring_alone(alone);
    written bigint;
begin
    execute statement;
    get diagnostics written = row_count;
    perform set_config('max_parallel_workers_per_gather', former, true);
    return written;
end
$$;
comment on function dbml_channel.write_scored(text, boolean) is 'Run a statement that writes what a compiled model scores; returns the number of rows.';

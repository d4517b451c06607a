create or replace function dbml.predict_json(model text, input_query text, engine text default null)
returns setof jsonb
language plpgsql volatile parallel unsafe security invoker
as $$
declare
    shape record;
    predicted text;
    compiled record;
begin
    shape := dbml_channel.describe(input_query);
    compiled := dbml_channel.score_call(model, engine, shape.names, shape.types, shape.kinds);
    if compiled.expression is not null then
        for attempt in 1 .. 2 loop
        begin
            return query execute 'select * from dbml_channel.run_scored($1, $2) as t(scored jsonb)' using dbml_channel.scored_rows(
                input_query, compiled.expression, shape.types,
                format('(select to_jsonb(given) from (select %s) given) || jsonb_build_object(''prediction'', %s)',
                    (select string_agg(format('scored.c%s as %I', i, n), ', ' order by i) from unnest(shape.names) with ordinality u(n, i)),
                    dbml_channel.scored_value(compiled.type, compiled.type, compiled.ask))), attempt = 2;
            return;
        exception when invalid_transaction_state or data_exception or sqlstate 'MLX01' then
            -- Of the first: a row is for the model, in a parallel plan.  Else the model scores all, or says what is wrong with them.
            exit when sqlstate <> '25000';
        end;
        end loop;
    end if;
    predicted := coalesce(compiled.type, dbml_channel.prediction_type(compiled.version, null));
    return query execute format('select * from dbml_channel.score_query($1, null, $2, $3, $4, $5, $6, %L, %L, false, %L) as t(scored jsonb)',
        'predict',
        format('select to_jsonb(given) || jsonb_build_object(''prediction'', scored.prediction::%s) from %s cross join lateral (select %s) given',
            predicted, dbml_channel.scored_source(shape.types, predicted),
            (select string_agg(format('c%s as %I', i, n), ', ' order by i) from unnest(shape.names) with ordinality u(n, i))), engine)
        using compiled.version, shape.names, shape.types, shape.kinds, input_query,
              jsonb_build_object('name', 'prediction', 'type', predicted, 'kind', dbml_channel.kind(predicted::regtype));
end
$$;
comment on function dbml.predict_json(text, text, text) is
'Score a query''s rows and return each as a JSON object: its columns and "prediction". predict without a column list.

Errors: as dbml.predict over a query.
Example: SELECT r ->> ''prediction'' FROM dbml.predict_json(''demo-iris'', ''SELECT * FROM demo.iris'') r;';

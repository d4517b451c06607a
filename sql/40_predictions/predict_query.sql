create or replace function dbml.predict(model text, input_query text, engine text default null)
returns setof record
language plpgsql volatile parallel unsafe security invoker
as $$
declare
    shape record;
    natural_type text;
    guess text[];
    total integer;
    said text;
    misfit integer;
    columns text;
    compiled record;
begin
    shape := dbml_channel.describe(input_query);
    compiled := dbml_channel.score_call(model, engine, shape.names, shape.types, shape.kinds);
    natural_type := coalesce(compiled.type, dbml_channel.prediction_type(compiled.version, null));
    guess := shape.types || natural_type;
    total := cardinality(guess);
    loop
        begin
            return query execute dbml_channel.null_row(guess);
            exit;
        exception
            when datatype_mismatch then
                get stacked diagnostics said = pg_exception_detail;
                select n.guess, n.total into guess, total
                from dbml_channel.next_guess(said, guess, total, shape.types || natural_type) n;
            when feature_not_supported then
                raise exception 'predict over a query returns rows: call it in FROM, with a column list' using errcode = 'ML007',
                    hint = 'SELECT * FROM dbml.predict(...) AS t(...), or SELECT dbml.predict_json(...)';
        end;
    end loop;
    -- The input's columns pass through untouched: a listed type may be another only where PostgreSQL
    -- converts by itself, losing nothing.
    select min(i) into misfit
    from generate_series(1, greatest(cardinality(guess), cardinality(shape.types) + 1)) i
    where case when i > cardinality(shape.types) then cardinality(guess) <> cardinality(shape.types) + 1
               else guess[i] is null or not dbml_channel.passes_as(shape.types[i], guess[i]) end;
    if misfit is not null then
        raise exception 'the column list does not fit: the query has % columns, then comes the prediction%',
            cardinality(shape.types), case when cardinality(guess) = cardinality(shape.types) + 1
                then format('; column %s is of type %s', misfit, shape.types[misfit]) else '' end
            using errcode = 'ML007', hint = dbml_channel.column_list(shape.names || 'prediction'::text, shape.types || natural_type);
    end if;
    select string_agg(format('%s %s', quote_ident('c' || i), t), ', ' order by i) into columns
    from unnest(guess) with ordinality u(t, i);
    if compiled.expression is not null then
        for attempt in 1 .. 2 loop
        begin
            return query execute format('select * from dbml_channel.run_scored($1, $2) as t(%s)', columns) using dbml_channel.scored_rows(
                input_query, compiled.expression, shape.types, format('%s, %s',
                    (select string_agg(format(case when t = guess[i] then 'scored.c%s' else 'scored.c%s::%s' end, i, guess[i]), ', ' order by i)
                     from unnest(shape.types) with ordinality u(t, i)), dbml_channel.scored_value(compiled.type, guess[total], compiled.ask))), attempt = 2;
            return;
        exception when invalid_transaction_state or data_exception or sqlstate 'MLX01' then
            -- Of the first: a row is for the model, in a parallel plan.  Else the model scores all, or says what is wrong with them.
            exit when sqlstate <> '25000';
        end;
        end loop;
    end if;
    return query execute format('select * from dbml_channel.score_query($1, null, $2, $3, $4, $5, $6, %L, %L, false, %L) as t(%s)', 'predict',
        format('select %s, %s from %s',
            (select string_agg(case when t = guess[i] then 'c' || i else format('c%s::%s', i, guess[i]) end, ', ' order by i)
             from unnest(shape.types) with ordinality u(t, i)),
            'prediction::' || guess[total], dbml_channel.scored_source(shape.types, guess[total])), engine, columns)
        using compiled.version, shape.names, shape.types, shape.kinds, input_query,
              jsonb_build_object('name', 'prediction', 'type', guess[total], 'kind', dbml_channel.kind(guess[total]::regtype));
end
$$;
comment on function dbml.predict(text, text, text) is
'Score a query''s rows: its columns, untouched and in order, then the prediction.

The model''s features are found by column name, in whatever order; other columns pass through. The query
runs in your session, as you, in your transaction.
Errors: ML021 names the feature that the query lacks; ML007 the column list does not fit (HINT: one that does).
Example: SELECT flower, prediction FROM dbml.predict(''demo-iris'', ''SELECT * FROM demo.iris'') AS t(flower int,
    sepal_length float8, sepal_width float8, petal_length float8, petal_width float8, species_id int, prediction text);';

create or replace function dbml_channel.passes_as(from_type text, to_type text)
returns boolean
language plpgsql stable parallel safe security invoker
as $$
declare
    t pg_type;
begin
    if to_type like '%(%' then   -- varchar(10), numeric(8,2): might cut or round
        return from_type = to_type;
    end if;
    select * into t from pg_type p where p.oid = from_type::regtype;
    return t.oid = to_type::regtype
        or to_type::regtype = 'text'::regtype and t.typcategory in ('S', 'E')
        or exists (select from pg_cast c where c.castsource = t.oid and c.casttarget = to_type::regtype and c.castcontext = 'i')
        or t.typtype = 'd' and dbml_channel.passes_as(format_type(t.typbasetype, null), to_type);
end
$$;
comment on function dbml_channel.passes_as(text, text) is 'Whether a column of one type may be listed as another: the same, or an implicit conversion.';

create or replace function dbml_channel.column_list(names text[], types text[])
returns text
language sql stable parallel safe security invoker
begin atomic
    select 'AS t(' || string_agg(quote_ident(n) || ' ' || t, ', ' order by i) || ')' from unnest(names, types) with ordinality u(n, t, i);
end;
comment on function dbml_channel.column_list(text[], text[]) is 'A column list as a call writes it.';

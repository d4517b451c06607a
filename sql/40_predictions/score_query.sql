create or replace function dbml_channel.score_query(
    model text, workspace text, names text[], types text[], kinds text[], query text, prediction jsonb, method text, give text, into_table boolean, engine text default null)
returns setof record
language plpgsql volatile parallel unsafe security invoker
-- Invoker: the query, and what is done with its rows, run as the caller.
-- give: a statement over $1, the chunk's rows as an array of records, and $2, the literal of their scores.
as $$
declare
    answer record;
    sent integer[];
    chunk_query text;
    rows_of refcursor;
    chunk record; waiting record;
    n integer;
    written bigint := 0;
    state text; said text;
begin
    sent := dbml_channel.open_scoring(model, workspace, names, types, kinds, prediction, method, engine);
    chunk_query := dbml_channel.chunk_query(types, kinds, sent, true);
    n := dbml_channel.chunk_rows(kinds, sent);
    perform dbml_channel.nest(1);
    open rows_of for execute dbml_channel.plain(query);
    waiting := null;
    loop
        -- While the worker scores one chunk, the next is read: then the scores of the former are given out.
        execute chunk_query into chunk using rows_of, n;
        perform dbml_channel.nest(-1);
        if written > 0 then
            select r.body into answer from dbml_channel.receive() r;
        end if;
        if written = 0 and chunk.n = n then   -- more is to come
            perform dbml_channel.hold_memory();
        end if;
        if chunk.n > 0 then
            perform dbml_channel.send('rows ' || jsonb_build_object('n', chunk.n)::text || E'\n' || chunk.body);
        end if;
        perform dbml_channel.nest(1);
        if written > 0 then
            if into_table then
                execute give using waiting.rows, answer.body;
            else
                return query execute give using waiting.rows, answer.body;
            end if;
        end if;
        exit when chunk.n = 0;
        waiting := chunk;
        written := written + chunk.n;
        n := dbml_channel.next_chunk_rows(n, octet_length(chunk.body), true);
    end loop;
    close rows_of;
    perform dbml_channel.nest(-1);
    if into_table then
        return query select written;
    end if;
exception when query_canceled or others then
    get stacked diagnostics state = returned_sqlstate, said = message_text;
    perform dbml_channel.abandon(state, said);
    raise;
end
$$;
comment on function dbml_channel.score_query(text, text, text[], text[], text[], text, jsonb, text, text, boolean, text) is
    'Score a query''s rows chunk by chunk and do with each chunk and its scores what a statement says.';

create or replace function dbml_channel.open_scoring(
    model text, workspace text, names text[], types text[], kinds text[], prediction jsonb, method text, engine text default null)
returns integer[]
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: a model is scored by those who may not read its bytes.
as $$
declare
    lent record;
    answer record;
    pair bytea;
begin
    lent := dbml_channel.find_model(model, workspace, 'predict');
    if lent.policy is not null then
        perform dbml_channel._check_format(lent.name, lent.format, lent.policy);
    end if;
    pair := dbml_channel._onnx_form(lent.model_id, engine, 'set');
    if pair is not null then
        lent.digest := pair;
        lent.format := 'paired ' || lent.format;
    end if;
    for attempt in 1 .. 4 loop
        select o.tag, o.head, o.body_ into answer from dbml_channel._open_call(jsonb_build_object(
            'kind', 'score', 'form', 'query', 'method', method, 'model', model, 'digest', encode(lent.digest, 'hex'),
            'format', lent.format, 'policy', lent.policy, 'signature', lent.signature, 'environment', lent.environment, 'columns', dbml_channel.columns(names, types, kinds), 'prediction', prediction)) o;
        exit when answer.tag not in ('need', 'need_environment');
        if answer.tag = 'need_environment' then
            perform dbml_channel._build_environment((lent.environment ->> 'id')::bigint);
            continue;
        end if;
        perform dbml_channel._send_model(lent.digest);
    end loop;
    if answer.tag in ('need', 'need_environment') then
        raise exception 'no scorer keeps model "%" long enough to score with it', model using errcode = 'ML024',
            hint = 'repeat the call; the worker''s log says more';
    end if;
    return array(select e.value::integer from jsonb_array_elements_text(answer.head::jsonb -> 'sent') e);
end
$$;
comment on function dbml_channel.open_scoring(text, text, text[], text[], text[], jsonb, text, text) is
    'Open the call that scores a query''s rows, and return the positions of the columns that the model takes.';

create or replace function dbml_channel.scored_source(types text[], prediction_type text)
returns text
language sql stable parallel safe security invoker
begin atomic
    -- The chunk's own columns c1..., and prediction, side by side.
    select format('rows from (unnest($1) as (%s, ordinal bigint), unnest($2::%s[])) as scored(%s, ordinal, prediction)',
        string_agg(format('c%s %s', i, t), ', ' order by i),
        case when dbml_channel.kind(prediction_type::regtype) in ('bool', 'int2', 'int4', 'int8', 'float4', 'float8')
             then prediction_type else 'text' end,
        string_agg('c' || i, ', ' order by i))
    from unnest(types) with ordinality u(t, i);
end;
comment on function dbml_channel.scored_source(text[], text) is 'The FROM item that joins a chunk''s rows to their scores.';

create or replace function dbml_channel.prediction_type(model text, workspace text, method text default 'predict')
returns text
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: as score_one.
as $$
begin
    return (dbml_channel.score_one(model, workspace, method, 'describe', null)).label_type;
end
$$;
comment on function dbml_channel.prediction_type(text, text, text) is 'The PostgreSQL type of a model''s predictions.';

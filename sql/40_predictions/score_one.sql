create or replace function dbml_channel.score_one(
    model text, workspace text, method text, form text, input text, engine text default null, out scored text, out label_type text)
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: a model is scored by those who may not read its bytes.
as $$
declare
    lent record;
    answer record;
    pair bytea;
    state text; said text;
begin
    lent := dbml_channel.find_model(model, workspace, 'predict');
    if lent.policy is not null then
        perform dbml_channel._check_format(lent.name, lent.format, lent.policy);
    end if;
    if lent.format = 'onnx' and engine <> 'onnx' then   -- which it refuses
        perform dbml_channel._choose_engine(lent.model_id, model, engine, method, form);
    end if;
    -- With its ONNX form, the model is another file.
    pair := dbml_channel._onnx_form(lent.model_id, engine, case form when 'row' then 'row' else 'set' end);
    if pair is not null then
        lent.digest := pair;
        lent.format := 'paired ' || lent.format;
    end if;
    for attempt in 1 .. 4 loop
        select o.tag, o.head, o.body_ into answer
        from dbml_channel._open_call(jsonb_build_object('kind', 'score', 'form', form, 'method', method, 'model', model,
                                                       'digest', encode(lent.digest, 'hex'), 'environment', lent.environment,
                                                       'format', lent.format, 'policy', lent.policy,
            -- Only a record's columns are found by name.
            'signature', case when form = 'record' then lent.signature end), input) o;
        exit when answer.tag not in ('need', 'need_environment');
        if answer.tag = 'need_environment' then
            perform dbml_channel._build_environment((lent.environment ->> 'id')::bigint);
            continue;
        end if;
        -- The worker holds models by digest, whoever brought them: this one it has not seen, or has let go.
        perform dbml_channel._send_model(lent.digest);
    end loop;
    if answer.tag in ('need', 'need_environment') then
        raise exception 'no scorer keeps model "%" long enough to score with it', model using errcode = 'ML024',
            hint = 'repeat the call; the worker''s log says more';
    end if;
    scored := answer.body_;
    label_type := answer.head;
exception when query_canceled or others then
    get stacked diagnostics state = returned_sqlstate, said = message_text;
    perform dbml_channel.abandon(state, said);
    raise;
end
$$;
comment on function dbml_channel.score_one(text, text, text, text, text, text) is
    'Score one row: features in hex (form "row") or a JSON object by column name (form "record").';

create or replace function dbml_channel.ask_model(model text, features text)
returns text
language plpgsql stable parallel restricted security invoker
as $$
declare
    asked constant integer := coalesce(nullif(current_setting('dbml.asked', true), ''), '0')::integer + 1;
    most constant integer := 10000;   -- then the model scores all rows, chunk by chunk
begin
    -- In a parallel plan no call can be made: there this raises 25000, and the query, which has no effects, is run without.
    perform set_config('dbml.asked', asked::text, true);
    if asked > most then
        raise exception 'more than % rows are for the model itself', most using errcode = 'MLX01';
    end if;
    return (dbml_channel.score_one(ask_model.model, null, 'predict', 'record', ask_model.features, 'python')).scored::jsonb #>> '{}';
end
$$;
comment on function dbml_channel.ask_model(text, text) is
    'The model''s own answer to a row of a set that SQL scores otherwise; features: a JSON object, in the model''s order.';

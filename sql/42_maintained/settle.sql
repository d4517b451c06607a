create or replace function dbml_channel._ask_model(of_model bigint, features text)
returns text
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: scores for whom the predictions are kept, whoever writes the row; called by definers only.
as $$
declare
    lent constant record := dbml_channel._lent(of_model);
    answer record;
    predicted text;
    state text; said text;
begin
    perform dbml_channel.nest(1);   -- a script's call may be open
    begin
        for attempt in 1 .. 4 loop
            select o.tag, o.head, o.body_ into answer from dbml_channel._open_call(jsonb_build_object('kind', 'score', 'form', 'record',
                'method', 'predict', 'model', lent.name || ':' || lent.version, 'digest', encode(lent.digest, 'hex'),
                'environment', lent.environment, 'format', lent.format, 'policy', lent.policy, 'signature', lent.signature), features) o;
            exit when answer.tag not in ('need', 'need_environment');
            if answer.tag = 'need_environment' then
                perform dbml_channel._build_environment((lent.environment ->> 'id')::bigint);
                continue;
            end if;
            perform dbml_channel._send_model(lent.digest);
        end loop;
        if answer.tag in ('need', 'need_environment') then
            raise exception 'no scorer keeps model "%" long enough to score with it', lent.name using errcode = 'ML024',
                hint = 'repeat the call; the worker''s log says more';
        end if;
        predicted := answer.body_;
    exception when query_canceled or others then
        get stacked diagnostics state = returned_sqlstate, said = message_text;
        perform dbml_channel.abandon(state, said);
        if state not in ('ML021', 'ML023') then
            raise;
        end if;
        predicted := null;   -- the model refuses such a row
    end;
    perform dbml_channel.nest(-1);
    return predicted;
end
$$;
comment on function dbml_channel._ask_model(bigint, text) is
    'What a model itself predicts for one row, as JSON; NULL where it refuses the row.';

create or replace function dbml_channel._settle(m dbml._maintained)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes what the owner keeps; called by definers only.
as $$
declare
    row_ record;
    number double precision; numbers double precision[]; label text;
    answer text;
begin
    for row_ in execute m.statements ->> 'left' loop
        number := null; numbers := null; label := null;
        if m.statements ->> 'function' is not null then
            begin
                case m.prediction_type
                    when 'double precision' then execute m.statements ->> 'score_kept' into number using row_.place;
                    when 'double precision[]' then execute m.statements ->> 'score_kept' into numbers using row_.place;
                    else execute m.statements ->> 'score_kept' into label using row_.place;
                end case;
            exception when data_exception then
                null;   -- an overflow, say: the model answers inf where PostgreSQL raises
            end;
        end if;
        if number is null and numbers is null and label is null then
            answer := dbml_channel._ask_model(m.model_id, row_.features);
            case when m.prediction_type = 'double precision' then number := (answer::jsonb #>> '{}')::double precision;
                when m.prediction_type = 'double precision[]' then
                    numbers := case when jsonb_typeof(answer::jsonb) = 'array' then array(select a::double precision from jsonb_array_elements_text(answer::jsonb) with ordinality u(a, o) order by o) end;
                when m.prediction_type like '%[]' then
                    label := case when jsonb_typeof(answer::jsonb) = 'array' then array(select a from jsonb_array_elements_text(answer::jsonb) with ordinality u(a, o) order by o)::text end;
                else label := answer::jsonb #>> '{}';
            end case;
        end if;
        execute m.statements ->> 'settle' using number, numbers, label, (m.statements ->> 'version')::integer, row_.place;
    end loop;
end
$$;
comment on function dbml_channel._settle(dbml._maintained) is
    'Score the rows that a compiled model leaves to the model itself, one by one; NULL is kept for those that it refuses.';

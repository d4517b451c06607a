create or replace function dbml_channel._check_format(model text, format text, policy jsonb)
returns void
language plpgsql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if policy -> 'formats' <> 'null' and not policy -> 'formats' ? format then
        raise exception 'model "%" is of format %, workspace "%" allows %', model, format, policy ->> 'workspace',
            (select string_agg(f, ', ' order by f) from jsonb_array_elements_text(policy -> 'formats') f)
            using errcode = 'ML026', detail = jsonb_build_object('model', model, 'format', format, 'policy', policy),
                  hint = 'SELECT name, model_formats, model_types FROM dbml.workspaces';
    elsif format in ('rds', 'files') and policy -> 'types' <> 'null' then
        raise exception 'model "%" is of format %, whose types cannot be told, and workspace "%" allows certain types alone',
            model, format, policy ->> 'workspace'
            using errcode = 'ML026', detail = jsonb_build_object('model', model, 'format', format, 'policy', policy),
                  hint = 'SELECT name, model_formats, model_types FROM dbml.workspaces';
    end if;
end
$$;
comment on function dbml_channel._check_format(text, text, jsonb) is
    'Refuse a model whose format its workspace''s policy does not allow.';

create or replace function dbml_channel._ask_contents(form text, model text, digest bytea, format text, policy jsonb)
returns text
language plpgsql volatile parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: sends bytes that the caller may not see; called by definers that have asked for the right.
as $$
declare
    answer record;
    state text; said text;
begin
    for attempt in 1 .. 4 loop
        select o.tag, o.head, o.body_ into answer
        from dbml_channel._open_call(jsonb_build_object('kind', 'inspect', 'form', form, 'model', model,
            'digest', encode(digest, 'hex'), 'format', format, 'policy', policy)) o;
        exit when answer.tag <> 'need';
        perform dbml_channel._send_model(digest);
    end loop;
    if answer.tag = 'need' then
        raise exception 'the worker did not take the bytes of model "%"', model using errcode = 'ML022',
            hint = 'repeat the call; the worker''s log says more';
    end if;
    return answer.body_;
exception when query_canceled or others then
    get stacked diagnostics state = returned_sqlstate, said = message_text;
    perform dbml_channel.abandon(state, said);
    raise;
end
$$;
comment on function dbml_channel._ask_contents(text, text, bytea, text, jsonb) is
    'Have a process of the worker read a model''s bytes without loading them: form "inspect" returns rows, "admit" refuses by the policy.';

create or replace function dbml_channel._admit_model(model text, digest bytea, format text, policy jsonb)
returns void
language plpgsql volatile parallel restricted security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if policy is not null then
        perform dbml_channel._check_format(model, format, policy);
    end if;
    if policy -> 'types' <> 'null' or format in ('safe', 'onnx') then
        perform dbml_channel.nest(1);   -- a call of the same session may be open
        perform dbml_channel._ask_contents('admit', model, digest, format, policy);
        perform dbml_channel.nest(-1);
    end if;
end
$$;
comment on function dbml_channel._admit_model(text, bytea, text, jsonb) is
    'Refuse a model that its workspace''s policy does not allow, and a safe or ONNX file with what is not trusted.';

create or replace function dbml_channel.keep_script(
    script text, input_query text, inputs jsonb, params jsonb, language text, input_name text, output_name text,
    partition_by text[], order_by text[], rows_per_read integer, parallel integer, environment text, pool text,
    timeout interval, workspace text, experiment text)
returns uuid
language sql volatile parallel unsafe security invoker
begin atomic
    select r.literals[1]::uuid
    from dbml_channel.run_call(dbml_channel.script_request(script, input_query, inputs, params, language, input_name,
        output_name, partition_by, order_by, rows_per_read, parallel, environment, pool, timeout, workspace, experiment)
        || '{"result": "keep"}') r;
end;
comment on function dbml_channel.keep_script(text, text, jsonb, jsonb, text, text, text, text[], text[], integer, integer,
    text, text, interval, text, text) is
    'Run a script, keep its result as an output of the run, with the types it has by itself, and return the run''s id.';

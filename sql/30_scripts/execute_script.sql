create or replace procedure dbml.execute_script(
    script         text,
    input_query    text     default null,
    inputs         jsonb    default '{}',
    language       text     default 'python',
    input_name     text     default 'InputDataSet',
    output_name    text     default 'OutputDataSet',
    partition_by   text[]   default null,
    order_by       text[]   default null,
    rows_per_read  integer  default null,
    parallel       integer  default 1,
    environment    text     default null,
    pool           text     default null,
    timeout        interval default null,
    workspace      text     default null,
    experiment     text     default null,
    inout params    jsonb    default '{}')
language plpgsql security invoker
as $$
declare
    chunk text[];
begin
    for chunk in
        select r.literals from dbml_channel.run_call(dbml_channel.script_request(script, input_query, inputs, params, language,
            input_name, output_name, partition_by, order_by, rows_per_read, parallel, environment, pool, timeout, workspace,
            experiment) || '{"result": "params"}') r
    loop
        params := chunk[1]::jsonb;
    end loop;
end
$$;
comment on procedure dbml.execute_script(text, text, jsonb, text, text, text, text[], text[], integer, integer, text, text,
    interval, text, text, jsonb) is
'Run a script and give back its parameters: each key of params is a variable of the script, and its value at the end returns.

bytes return as base64 text, numpy scalars as numbers. A result set in OutputDataSet is not returned: use run_script for it.
Arguments and errors: as dbml.run_script.
Example: CALL dbml.execute_script($$n = len(InputDataSet)$$, input_query => ''SELECT 1 AS x'', params => ''{"n": null}'');';

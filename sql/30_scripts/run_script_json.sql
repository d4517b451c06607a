create or replace function dbml.run_script_json(
    script         text,
    input_query    text     default null,
    inputs         jsonb    default '{}',
    params         jsonb    default '{}',
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
    experiment     text     default null)
returns setof jsonb
language plpgsql volatile parallel unsafe security invoker
as $$
declare
    chunk text[];
begin
    for chunk in
        select r.literals from dbml_channel.run_call(dbml_channel.script_request(script, input_query, inputs, params, language,
            input_name, output_name, partition_by, order_by, rows_per_read, parallel, environment, pool, timeout, workspace,
            experiment) || '{"result": "json"}') r
    loop
        return query select r::jsonb from unnest(chunk[1]::text[]) r;
    end loop;
end
$$;
comment on function dbml.run_script_json(text, text, jsonb, jsonb, text, text, text, text[], text[], integer, integer, text, text,
    interval, text, text) is
'Run a script and return each row of its OutputDataSet as a JSON object: run_script without a column list.

Values are as to_jsonb prints them: NaN and the infinities as text, timestamps in ISO 8601, bytea as \x....
Arguments and errors: as dbml.run_script.
Example: SELECT r ->> ''y'' FROM dbml.run_script_json(''OutputDataSet = [{"y": 1}]'') r;';

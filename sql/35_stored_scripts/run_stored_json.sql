create or replace function dbml.run_stored_json(
    name           text,
    input_query    text     default null,
    inputs         jsonb    default '{}',
    params         jsonb    default '{}',
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
    for chunk in select r.literals from dbml_channel.run_call(dbml_channel.script_request('', input_query, inputs, params, 'python', input_name, output_name,
        partition_by, order_by, rows_per_read, parallel, environment, pool, timeout, workspace, experiment)
        || jsonb_build_object('stored_script', name)
        || '{"result": "json"}') r
    loop
        return query select r::jsonb from unnest(chunk[1]::text[]) r;
    end loop;
end
$$;
comment on function dbml.run_stored_json(text, text, jsonb, jsonb, text, text, text[], text[], integer, integer, text,
    text, interval, text, text) is
'Run a stored script and return each row of its OutputDataSet as a JSON object: run_stored without a column list.

Arguments and errors: as dbml.run_stored. Values: as dbml.run_script_json.
Example: SELECT dbml.create_script(''add-one'', ''python'', $$OutputDataSet = InputDataSet.assign(y=InputDataSet.x + 1)$$);
    SELECT r ->> ''y'' FROM dbml.run_stored_json(''add-one'', input_query => ''SELECT 1 AS x'') r;';

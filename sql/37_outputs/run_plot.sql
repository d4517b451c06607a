create or replace function dbml.run_plot(
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
returns bytea
language plpgsql volatile parallel unsafe security invoker
as $$
declare
    chunk text[];
    picture bytea;
begin
    for chunk in
        select r.literals from dbml_channel.run_call(dbml_channel.script_request(script, input_query, inputs, params, language,
            input_name, output_name, partition_by, order_by, rows_per_read, parallel, environment, pool, timeout, workspace,
            experiment) || '{"result": "plot"}') r
    loop
        picture := coalesce(picture, decode(chunk[1], 'hex'));
    end loop;
    return picture;
end
$$;
comment on function dbml.run_plot(text, text, jsonb, jsonb, text, text, text, text[], text[], integer, integer, text, text,
    interval, text, text) is
'Run a script and return its plot as PNG: the first figure that it left open or gave to run.log_image.

Every figure is kept with the run as well: dbml.artifacts lists them, dbml.artifact_bytes reads them.
Arguments and errors: as dbml.run_script; ML009 where there was no figure.
Example: SELECT length(dbml.run_plot($$InputDataSet.plot(x="x", y="y")$$,
    input_query => ''SELECT g AS x, g * g AS y FROM generate_series(1, 9) g'')) > 0;';

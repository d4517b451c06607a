create or replace function dbml.run_script(
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
returns setof record
language plpgsql volatile parallel unsafe security invoker
as $$
declare
    request jsonb;
    guess text[] := array['dbml_channel.unknown_column'];
    total integer := 1;
    said text;
    give text;
    chunk text[];
begin
    request := dbml_channel.script_request(script, input_query, inputs, params, language, input_name, output_name,
        partition_by, order_by, rows_per_read, parallel, environment, pool, timeout, workspace, experiment);
    loop
        begin
            return query execute dbml_channel.null_row(guess);
            exit;
        exception
            when datatype_mismatch then
                get stacked diagnostics said = pg_exception_detail;
                select n.guess, n.total into guess, total from dbml_channel.next_guess(said, guess, total) n;
            when feature_not_supported then
                raise exception 'run_script returns rows: call it in FROM, with a column list' using errcode = 'ML007',
                    hint = 'SELECT * FROM dbml.run_script(...) AS t(x bigint), or SELECT dbml.run_script_json(...)';
        end;
    end loop;
    give := dbml_channel.give_columns(guess);
    request := request || jsonb_build_object('result', 'table', 'expected', dbml_channel.expected(guess));
    for chunk in select r.literals from dbml_channel.run_call(request) r loop
        return query execute give using chunk;
    end loop;
end
$$;
comment on function dbml.run_script(text, text, jsonb, jsonb, text, text, text, text[], text[], integer, integer, text, text,
    interval, text, text) is
'Run a script next to the data and return what it leaves in OutputDataSet as rows.

The input query runs in your session: as you, in your transaction, with its uncommitted rows and temporary
tables. Its rows are the pandas DataFrame InputDataSet (input_name); further inputs are named in inputs,
{"train": "SELECT ...", "test": {"dataset": "iris:2"}}. Each key of params is a variable. What the script prints arrives as NOTICE. run is
there: run.log(name, value), run.register_model(name, estimator), run.load_model(name), run.upload_file(...).
partition_by runs the script once a group, with the group''s key as variables and in front of its result; order_by
orders the rows; rows_per_read runs it once for each so many rows, with first_chunk, last_chunk and a dict, state,
that it keeps between them; parallel uses so many processes, with rows_per_read and partition_by for pieces, else
each with its share of the rows. Results come in the order of the rows.
The column list says the types wanted; a value that a type cannot hold exactly is an error, not rounded.
timeout stops the script, pool names the resource pool whose limits hold. A parameter {"$secret": value} is the value
for the script, and neither recorded nor logged. The call is recorded in dbml.runs, also when it fails or is rolled back.
Errors: ML001 the script raised (its lines are the CONTEXT); ML002 syntax; ML003 sys.exit; ML004 the process
died; ML005 a limit; ML006 timeout; ML007 the column list does not fit (HINT: one that does); ML008 a value or
type that cannot be carried; ML010, ML011 the worker; ML015 too many scripts; ML060, ML061 no such pool, or
no right to it.
Example: SELECT * FROM dbml.run_script($$OutputDataSet = InputDataSet.assign(y = InputDataSet.x * factor)$$,
    input_query => ''SELECT g AS x FROM generate_series(1,5) g'', params => ''{"factor": 3}'') AS t(x bigint, y bigint);';

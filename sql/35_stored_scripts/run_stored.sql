create or replace function dbml.run_stored(
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
    request := dbml_channel.script_request('', input_query, inputs, params, 'python', input_name, output_name,
        partition_by, order_by, rows_per_read, parallel, environment, pool, timeout, workspace, experiment)
        || jsonb_build_object('stored_script', name);
    loop
        begin
            return query execute dbml_channel.null_row(guess);
            exit;
        exception
            when datatype_mismatch then
                get stacked diagnostics said = pg_exception_detail;
                select n.guess, n.total into guess, total from dbml_channel.next_guess(said, guess, total) n;
            when feature_not_supported then
                raise exception 'run_stored returns rows: call it in FROM, with a column list' using errcode = 'ML007',
                    hint = 'SELECT * FROM dbml.run_stored(...) AS t(x bigint), or SELECT dbml.run_stored_json(...)';
        end;
    end loop;
    give := dbml_channel.give_columns(guess);
    request := request || jsonb_build_object('result', 'table', 'expected', dbml_channel.expected(guess));
    for chunk in select r.literals from dbml_channel.run_call(request) r loop
        return query execute give using chunk;
    end loop;
end
$$;
comment on function dbml.run_stored(text, text, jsonb, jsonb, text, text, text[], text[], integer, integer, text,
    text, interval, text, text) is
'Run a stored script, "name" or "name:3", and return what it leaves in OutputDataSet as rows.

The newest version runs where none is named. Its creator, whoever was named to dbml.grant_script, and owners of
the workspace may run it; no right to run any other script is needed. params stand before the script''s own
defaults. All else is as in dbml.run_script.
Errors: ML051 no such script, or no right to run it; else as dbml.run_script.
Example: SELECT dbml.create_script(''add-one'', ''python'', $$OutputDataSet = InputDataSet.assign(y=InputDataSet.x + 1)$$);
    SELECT * FROM dbml.run_stored(''add-one'', input_query => ''SELECT 1 AS x'') AS t(x bigint, y bigint);';

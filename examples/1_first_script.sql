-- A query goes in as a DataFrame, rows come out.
SELECT * FROM dbml.run_script($$
OutputDataSet = InputDataSet.assign(y = InputDataSet.x * factor)
$$,
    input_query => 'SELECT g AS x FROM generate_series(1, 5) g',
    params      => '{"factor": 3}'
) AS t(x bigint, y bigint);

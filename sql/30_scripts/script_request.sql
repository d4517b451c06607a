create or replace function dbml_channel.script_request(
    script text, input_query text, inputs jsonb, params jsonb, language text, input_name text, output_name text,
    partition_by text[], order_by text[], rows_per_read integer, parallel integer, environment text, pool text,
    timeout interval, workspace text, experiment text)
returns jsonb
language plpgsql stable parallel restricted security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    queries jsonb;
    home record;
    named jsonb := dbml_channel.named_datasets(inputs);
begin
    inputs := inputs || dbml_channel.queries_of(named, workspace);
    if script is null then
        raise exception 'script must be given, got NULL' using errcode = 'ML009';
    elsif language is null or lower(language) not in ('python', 'r') then
        raise exception 'language must be python or r, got %', coalesce(quote_literal(language), 'NULL') using errcode = 'ML009',
            detail = jsonb_build_object('argument', 'language', 'value', language);
    elsif jsonb_typeof(coalesce(inputs, '{}')) <> 'object'
          or exists (select from jsonb_each(coalesce(inputs, '{}')) e where jsonb_typeof(e.value) <> 'string') then
        raise exception 'inputs must be a JSON object of queries by name, got %', inputs
            using errcode = 'ML009', hint = 'inputs => ''{"train": "SELECT ...", "test": {"dataset": "iris:2"}}''';
    elsif jsonb_typeof(coalesce(params, '{}')) <> 'object' then
        raise exception 'params must be a JSON object, got %', jsonb_typeof(params)
            using errcode = 'ML009', hint = 'params => ''{"alpha": 0.5}'' makes the variable alpha';
    elsif input_query is not null and inputs ? input_name then
        raise exception 'the input "%" is given twice, by input_query and by inputs', input_name using errcode = 'ML009';
    elsif timeout <= interval '0' then
        raise exception 'timeout must be more than zero, got %', timeout using errcode = 'ML009';
    elsif cardinality(partition_by) = 0 or array_position(partition_by, null) is not null then
        raise exception 'partition_by must name columns, got %', partition_by using errcode = 'ML009',
            hint = 'partition_by => ''{region}''';
    elsif rows_per_read < 1 then
        raise exception 'rows_per_read must be 1 or more, got %', rows_per_read using errcode = 'ML009';
    elsif parallel is null or parallel not between 1 and 64 then
        raise exception 'parallel must be 1 to 64, got %', coalesce(parallel::text, 'NULL') using errcode = 'ML009',
            hint = 'more satellites than the worker has processors gain nothing';
    elsif partition_by is not null and rows_per_read is not null then
        raise exception 'partition_by and rows_per_read exclude each other' using errcode = 'ML009',
            hint = 'a group is read whole; leave rows_per_read out';
    end if;
    queries := coalesce(inputs, '{}')
        || case when input_query is null then '{}' else jsonb_build_object(input_name, input_query) end;
    if not queries ? input_name and num_nonnulls(partition_by, order_by, rows_per_read) > 0 then
        raise exception '% needs the input "%"', case when partition_by is not null then 'partition_by'
                                                      when order_by is not null then 'order_by' else 'rows_per_read' end, input_name
            using errcode = 'ML009', hint = 'give input_query => ''SELECT ...''';
    end if;
    home := dbml_channel.find_workspace(workspace, 'use');   -- what the call needs, open_call knows
    return jsonb_build_object(
        'kind', 'script', 'script', script, 'language', lower(language), 'params', coalesce(params, '{}'),
        'output_name', output_name, 'queries', queries, 'datasets', named, 'main_input', input_name, 'order_by', to_jsonb(order_by),
        'parallel', parallel, 'split', case
            when partition_by is not null then jsonb_build_object('by', 'partition', 'input', input_name, 'keys', to_jsonb(partition_by))
            when rows_per_read is not null then jsonb_build_object('by', 'read', 'input', input_name, 'rows', rows_per_read)
            when parallel > 1 and queries ? input_name then jsonb_build_object('by', 'share', 'input', input_name, 'shares', parallel) end,
        'timeout_s', extract(epoch from timeout), 'workspace', home.name, 'workspace_id', home.id, 'experiment', experiment,
        'environment', dbml_channel.find_environment(environment, home.name), 'pool', pool,
        'database', current_database(), 'backend_pid', pg_backend_pid(), 'client_address', inet_client_addr(),
        'application', current_setting('application_name'));
end
$$;
comment on function dbml_channel.script_request(text, text, jsonb, jsonb, text, text, text, text[], text[], integer, integer,
    text, text, interval, text, text) is 'Check the arguments of a script''s call and make its request.';

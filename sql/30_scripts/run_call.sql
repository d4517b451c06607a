create or replace function dbml_channel.script_request(
    script text, input_query text, inputs jsonb, params jsonb, language text, input_name text, output_name text,
    partition_by text[], order_by text[], rows_per_read integer, parallel integer, environment text, pool text,
    timeout interval, workspace text, experiment text)
returns jsonb
language plpgsql stable parallel restricted security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    unsupported text := case
        when language is distinct from 'python' and lower(language) is distinct from 'python' then format('language => %L', language)
        when partition_by is not null then 'partition_by' when order_by is not null then 'order_by'
        when rows_per_read is not null then 'rows_per_read' when parallel is distinct from 1 then 'parallel'
        when pool is not null then 'pool' end;
    home record;
begin
    if unsupported is not null then
        raise exception '% is not supported yet', unsupported
            using errcode = 'ML030', detail = jsonb_build_object('argument', split_part(unsupported, ' ', 1)),
                  hint = 'leave it out; ORDER BY in the input query, or one call a group, does the same for now';
    elsif script is null then
        raise exception 'script must be given, got NULL' using errcode = 'ML009';
    elsif jsonb_typeof(coalesce(inputs, '{}')) <> 'object'
          or exists (select from jsonb_each(coalesce(inputs, '{}')) e where jsonb_typeof(e.value) <> 'string') then
        raise exception 'inputs must be a JSON object of queries by name, got %', inputs
            using errcode = 'ML009', hint = 'inputs => ''{"train": "SELECT ...", "test": "SELECT ..."}''';
    elsif jsonb_typeof(coalesce(params, '{}')) <> 'object' then
        raise exception 'params must be a JSON object, got %', params
            using errcode = 'ML009', hint = 'params => ''{"alpha": 0.5}'' makes the variable alpha';
    elsif input_query is not null and inputs ? input_name then
        raise exception 'the input "%" is given twice, by input_query and by inputs', input_name using errcode = 'ML009';
    elsif timeout <= interval '0' then
        raise exception 'timeout must be more than zero, got %', timeout using errcode = 'ML009';
    end if;
    home := dbml_channel.find_workspace(workspace);
    return jsonb_build_object(
        'kind', 'script', 'script', script, 'params', coalesce(params, '{}'), 'output_name', output_name,
        'queries', coalesce(inputs, '{}')
            || case when input_query is null then '{}' else jsonb_build_object(input_name, input_query) end,
        'timeout_s', extract(epoch from timeout), 'workspace', home.name, 'workspace_id', home.id, 'experiment', experiment,
        'environment', dbml_channel.find_environment(environment, home.name),
        'database', current_database(), 'backend_pid', pg_backend_pid(), 'client_address', inet_client_addr(),
        'application', current_setting('application_name'));
end
$$;
comment on function dbml_channel.script_request(text, text, jsonb, jsonb, text, text, text, text[], text[], integer, integer,
    text, text, interval, text, text) is 'Check the arguments of a script''s call and make its request.';

create or replace function dbml_channel.run_call(request jsonb)
returns table (literals text[])
language plpgsql volatile parallel unsafe security invoker
-- Invoker: the input queries run here, as the caller, in the caller's transaction and snapshot.
as $$
declare
    input record;
    shape record;
    chunk record;
    rows_of refcursor;
    chunk_query text;
    inputs jsonb := '[]';
    sent boolean;
    n integer;
    tags text[]; heads text[]; bodies text[];
    i integer; width integer;
    head jsonb;
    message text;
    state text; said text;
begin
    for input in select e.key as name, e.value #>> '{}' as query from jsonb_each(request -> 'queries') e loop
        shape := dbml_channel.describe(input.query);
        inputs := inputs || jsonb_build_object('name', input.name, 'query', input.query,
            'columns', dbml_channel.columns(shape.names, shape.types, shape.kinds));
    end loop;
    while exists (select from dbml_channel.open_call(request - 'queries' || jsonb_build_object('inputs', inputs)) o
                  where o.tag = 'need_environment') loop
        perform dbml_channel.build_environment((request -> 'environment' ->> 'id')::bigint);
    end loop;
    for i in 0 .. jsonb_array_length(inputs) - 1 loop
        select array_agg(c ->> 'type' order by o) as types, array_agg(c ->> 'kind' order by o) as kinds, array_agg(o::integer order by o) as sent
        into shape from jsonb_array_elements(inputs -> i -> 'columns') with ordinality u(c, o);
        chunk_query := dbml_channel.chunk_query(shape.types, shape.kinds, shape.sent, false);
        n := dbml_channel.chunk_rows(shape.kinds, shape.sent);
        sent := false;
        perform dbml_channel.nest(1);
        open rows_of for execute dbml_channel.plain(inputs -> i ->> 'query');
        loop
            execute chunk_query into chunk using rows_of, n;
            perform dbml_channel.nest(-1);
            if sent then
                perform * from dbml_channel.receive();   -- the worker took the last chunk while this one was read
            end if;
            exit when chunk.n = 0;
            perform dbml_channel.send('rows ' || jsonb_build_object('input', i, 'n', chunk.n)::text || E'\n' || chunk.body);
            sent := true;
            n := dbml_channel.next_chunk_rows(n, octet_length(chunk.body), false);
            perform dbml_channel.nest(1);
        end loop;
        close rows_of;
    end loop;
    message := 'run {}';
    loop
        select array_agg(e.tag), array_agg(e.head), array_agg(e.body) into tags, heads, bodies
        from dbml_channel.exchange(message) e;
        message := 'next {}';
        i := 1;
        while i <= cardinality(tags) loop
            head := heads[i]::jsonb;
            case tags[i]
                when 'notice' then
                    raise notice '%', bodies[i];
                when 'frame' then
                    width := (head ->> 'width')::integer;
                    literals := bodies[i + 1 : i + width];
                    return next;
                    i := i + width;
                when 'load' then
                    message := dbml_channel.lend_model(head ->> 'name', request ->> 'workspace');
                when 'register' then
                    message := 'registered ' || jsonb_build_object('name', head ->> 'name',
                        'version', dbml_channel.receive_model(head, (request ->> 'workspace_id')::bigint))::text;
                when 'running' then
                    null;
                when 'params' then
                    literals := array[bodies[i]];
                    return next;
                when 'done' then
                    return;
                else
                    raise exception 'the worker answered with "%", which this schema does not know', tags[i]
                        using errcode = 'ML013', hint = 'dbml upgrade, and restart the worker';
            end case;
            i := i + 1;
        end loop;
    end loop;
exception when query_canceled or others then
    get stacked diagnostics state = returned_sqlstate, said = message_text;
    perform dbml_channel.abandon(state, said);
    raise;
end
$$;
comment on function dbml_channel.run_call(jsonb) is
    'Hold the conversation of one script: inputs out, prints, models and results in. Each row is one chunk of the result.';

create or replace function dbml_channel.lend_model(model text, workspace text)
returns text
language plpgsql volatile parallel unsafe security invoker
as $$
declare
    lent record;
    state text; said text; detail text; hint text;
begin
    begin
        lent := dbml_channel.find_model(model, workspace);
    exception when others then
        get stacked diagnostics state = returned_sqlstate, said = message_text, detail = pg_exception_detail, hint = pg_exception_hint;
        return 'refused ' || jsonb_build_object('sqlstate', state, 'message', said, 'detail', detail, 'hint', hint)::text;
    end;
    perform dbml_channel.send_model(lent.digest);
    return 'model ' || jsonb_build_object('name', lent.name, 'version', lent.version, 'digest', encode(lent.digest, 'hex'))::text;
end
$$;
comment on function dbml_channel.lend_model(text, text) is 'Send the model that a script asks for; returns the message that ends the sending.';

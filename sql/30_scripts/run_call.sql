create or replace function dbml_channel.run_call(request jsonb)
returns table (literals text[])
language plpgsql volatile parallel unsafe security invoker
-- Invoker: the input queries run here, as the caller, in the caller's transaction and snapshot.
as $$
declare
    split constant jsonb := nullif(request -> 'split', 'null');
    main constant text := request ->> 'main_input';
    input record; shape record; chunk record;
    inputs jsonb := '[]';
    queries text[] := '{}';
    opened record;
    position integer := -1;         -- of the input that is being read
    rows_of refcursor;
    chunk_query text;
    n integer;
    body text; body_rows integer;   -- read ahead: the chunk that goes next
    at_end boolean := false;        -- every input is read
    ready boolean := true;          -- the worker takes another chunk
    running boolean := false;       -- it was told that there are no more
    sent boolean := false;
    held boolean := false;
    reply text;                     -- to what the script asked
    tags text[]; heads text[]; bodies text[];
    i integer; width integer;
    head jsonb;
    state text; said text;
begin
    for input in
        select e.key as name, e.value #>> '{}' as query from jsonb_each(request -> 'queries') e
        order by e.key = main, e.key   -- what is read in pieces comes last
    loop
        shape := dbml_channel.describe(input.query);
        inputs := inputs || jsonb_build_object('name', input.name, 'query', input.query,
            'columns', dbml_channel.columns(shape.names, shape.types, shape.kinds), 'relations', dbml_channel.relations(input.query));
        queries := queries || case when input.name = main
            then dbml_channel.piece_query(input.query, shape.names, split, request -> 'order_by')
            else dbml_channel.plain(input.query) end;
    end loop;
    inputs := dbml_channel.with_datasets(inputs, request);
    request := request - 'datasets';
    loop
        select o.tag, o.head into opened from dbml_channel.open_call(request - 'queries' || jsonb_build_object('inputs', inputs)) o;
        exit when opened.tag <> 'need_environment';
        perform dbml_channel.build_environment((request -> 'environment' ->> 'id')::bigint);
    end loop;
    loop
        -- Read ahead, while the worker is at what was sent last.
        while body is null and not at_end loop
            perform dbml_channel.nest(1);
            if rows_of is null then
                position := position + 1;
                if position = cardinality(queries) then
                    at_end := true;
                    perform dbml_channel.nest(-1);
                    exit;
                end if;
                select array_agg(c ->> 'type' order by o) as types, array_agg(c ->> 'kind' order by o) as kinds,
                       array_agg(o::integer order by o) as sent
                into shape
                from jsonb_array_elements(inputs -> position -> 'columns'
                    || case when split is not null and inputs -> position ->> 'name' = main
                            then '[{"type": "bigint", "kind": "int8"}]' else '[]' end::jsonb) with ordinality u(c, o);
                chunk_query := dbml_channel.chunk_query(shape.types, shape.kinds, shape.sent, false);
                n := dbml_channel.chunk_rows(shape.kinds, shape.sent);
                open rows_of for execute queries[position + 1];
            end if;
            execute chunk_query into chunk using rows_of, n;
            perform dbml_channel.nest(-1);
            if chunk.n = 0 then
                close rows_of;
                rows_of := null;
            else
                if chunk.n = n and not held then   -- more is to come
                    perform dbml_channel.hold_memory();
                    held := true;
                end if;
                body := chunk.body;
                body_rows := chunk.n;
                n := dbml_channel.next_chunk_rows(n, octet_length(body), false);
            end if;
        end loop;
        if sent then
            select array_agg(e.tag), array_agg(e.head), array_agg(e.body) into tags, heads, bodies from dbml_channel.receive() e;
            ready := false;
            i := 1;
            while i <= cardinality(tags) loop
                head := heads[i]::jsonb;
                case tags[i]
                    when 'ok' then
                        ready := true;
                    when 'notice' then
                        raise notice '%', bodies[i];
                    when 'frame' then
                        width := (head ->> 'width')::integer;
                        literals := bodies[i + 1 : i + width];
                        return next;
                        i := i + width;
                    when 'load' then
                        reply := dbml_channel.lend_model(case when request ? 'replay_of'
                            then dbml_channel.loaded_then((request ->> 'replay_of')::uuid, head ->> 'name')
                            else head ->> 'name' end, request ->> 'workspace');
                    when 'register' then
                        if request ? 'replay_of' then   -- its bytes are compared, not kept
                            reply := 'registered ' || dbml_channel.pass_over_model(head)::text;
                            literals := array['register', head ->> 'name', coalesce(head ->> 'digest', dbml_channel.digest_of_files(head))];
                            return next;
                            i := i + 1;
                            continue;
                        end if;
                        reply := 'registered ' || jsonb_build_object('name', head ->> 'name', 'version', case when head ? 'files'
                            then dbml.register_model_files(head ->> 'name', head -> 'files', head ->> 'format', head ->> 'framework',
                                head ->> 'framework_version', null, head ->> 'description', head -> 'tags', head -> 'properties',
                                run_id => (head ->> 'run_id')::uuid, workspace => request ->> 'workspace')
                            else dbml_channel.receive_model(head, (request ->> 'workspace_id')::bigint) end)::text;
                    when 'params' then
                        literals := array[bodies[i]];
                        return next;
                    when 'done' then
                        if request ->> 'result' = 'keep' then
                            literals := array[opened.head];
                            return next;
                        end if;
                        return;
                    else
                        raise exception 'the worker answered with "%", which this schema does not know', tags[i]
                            using errcode = 'ML013', hint = 'dbml upgrade, and restart the worker';
                end case;
                i := i + 1;
            end loop;
        end if;
        sent := true;
        if reply is not null then
            perform dbml_channel.send(reply);
            reply := null;
        elsif running or not ready then
            perform dbml_channel.send('next {}');
        elsif body is not null then
            perform dbml_channel.send('rows ' || jsonb_build_object('input', position, 'n', body_rows)::text || E'\n' || body);
            body := null;
        else
            perform dbml_channel.send('run {}');
            running := true;
        end if;
    end loop;
exception when query_canceled or others then
    get stacked diagnostics state = returned_sqlstate, said = message_text;
    perform dbml_channel.abandon(state, said);
    raise;
end
$$;
comment on function dbml_channel.run_call(jsonb) is
    'Hold the conversation of one script: inputs out, prints, models and results in. Each row is one chunk of the result.';

create or replace function dbml_channel.piece_query(query text, names text[], split jsonb, order_by jsonb)
returns text
language plpgsql stable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
-- The rows in the order in which the script gets them; where it gets them in pieces, the number of each row's
-- piece is the last column.  One sort serves both, and row numbers need none.
declare
    keys text := (select string_agg(dbml_channel.column_in(k, names, 'partition_by'), ', ' order by o)
                  from jsonb_array_elements_text(split -> 'keys') with ordinality u(k, o));
    ordering text := concat_ws(', ', keys, (select string_agg(dbml_channel.ordering(k, names), ', ' order by o)
                  from jsonb_array_elements_text(nullif(order_by, 'null')) with ordinality u(k, o)));
    rows_ text := dbml_channel.plain(query);
begin
    if ordering <> '' then
        rows_ := format(E'select * from (%s\n) q order by %s', rows_, ordering);
    end if;
    return case split ->> 'by'
        when 'partition' then format(E'select q.*, dense_rank() over (order by %s) from (%s\n) q', keys, rows_)
        when 'read' then format(E'select q.*, (row_number() over () - 1) / %s from (%s\n) q', split ->> 'rows', rows_)
        when 'share' then format(E'select q.*, ntile(%s) over ()::bigint from (%s\n) q', split ->> 'shares', rows_)
        else rows_ end;
end
$$;
comment on function dbml_channel.piece_query(text, text[], jsonb, jsonb) is
    'The query that gives the rows of a script''s input in order, each with the number of its piece.';

create or replace function dbml_channel.column_in(name text, names text[], argument text)
returns text
language plpgsql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if name is null or array_position(names, name) is null then
        raise exception '% names the column "%", which the input does not have', argument, name
            using errcode = 'ML009', detail = jsonb_build_object('argument', argument, 'column', name, 'columns', names),
                  hint = 'its columns: ' || array_to_string(names, ', ');
    end if;
    return format('q.%I', name);
end
$$;
comment on function dbml_channel.column_in(text, text[], text) is 'A column of a query, as an expression over it.';

create or replace function dbml_channel.ordering(term text, names text[])
returns text
language plpgsql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
-- A column's name, or a name and a direction: 'day', 'day desc', 'day desc nulls last'.
declare
    found_ text[] := regexp_match(term, '^(.*?)((\s+(asc|desc))?(\s+nulls\s+(first|last))?)\s*$', 'i');
begin
    if term = any (names) or found_ is null then
        return dbml_channel.column_in(term, names, 'order_by');
    end if;
    return dbml_channel.column_in(found_[1], names, 'order_by') || found_[2];
end
$$;
comment on function dbml_channel.ordering(text, text[]) is 'A term of order_by, as ORDER BY takes it.';

create or replace function dbml_channel.lend_model(model text, workspace text)
returns text
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads the bytes, for a caller who may read the model.
as $$
declare
    lent record;
    state text; said text; detail text; hint text;
begin
    begin
        lent := dbml_channel.find_model(model, workspace, 'read');
        perform dbml_channel._admit_model(lent.name, lent.digest, lent.format, lent.policy);
    exception when others then
        get stacked diagnostics state = returned_sqlstate, said = message_text, detail = pg_exception_detail, hint = pg_exception_hint;
        return 'refused ' || jsonb_build_object('sqlstate', state, 'message', said, 'detail', detail, 'hint', hint)::text;
    end;
    perform dbml_channel._send_model(lent.digest);
    return 'model ' || jsonb_build_object('name', lent.name, 'version', lent.version, 'digest', encode(lent.digest, 'hex'),
        'format', lent.format, 'policy', lent.policy)::text;
end
$$;
comment on function dbml_channel.lend_model(text, text) is 'Send the model that a script asks for; returns the message that ends the sending.';

create or replace function dbml_channel.relations(query text)
returns jsonb
language plpgsql volatile parallel unsafe security invoker
as $$
-- The tables that a query reads, as it is planned: those behind views, and not those that the planner has found to be needless.
declare
    plan jsonb;
begin
    execute 'explain (verbose, costs off, format json) ' || dbml_channel.plain(query) into plan;
    return (select coalesce(jsonb_agg(distinct format('%I.%I', r ->> 'Schema', r ->> 'Relation Name')), '[]')
            from jsonb_path_query(plan, 'strict $.** ? (@.type() == "object" && exists (@."Relation Name"))') r);
end
$$;
comment on function dbml_channel.relations(text) is 'The tables that a query reads, for lineage: a list of qualified names.';

create or replace function dbml_channel.pass_over_model(head jsonb)
returns jsonb
language plpgsql volatile parallel unsafe security invoker
as $$
declare
    tag text;
begin
    while head ? 'digest' loop   -- what is made of artifacts is compared as these
        select e.tag into tag from dbml_channel.exchange('fetch {}') e;
        exit when tag <> 'part';
    end loop;
    return jsonb_build_object('name', head ->> 'name', 'version', 0);
end
$$;
comment on function dbml_channel.pass_over_model(jsonb) is 'Hear a model that a repeated script registers, and keep nothing of it.';

create or replace function dbml_channel.loaded_then(run_id uuid, asked text)
returns text
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads a private table; whether the caller may read the model is asked when it is lent.
as $$
begin
    return coalesce((select (l ->> 'name') || ':' || (l ->> 'version') from dbml._runs r, jsonb_array_elements(r.loaded) l
                     where r.run_id = loaded_then.run_id and l ->> 'asked' = asked and dbml_channel.may(r.workspace_id, 'read') limit 1),
                    asked);
end
$$;
comment on function dbml_channel.loaded_then(uuid, text) is 'The version of a model that a run loaded by a name.';

create or replace function dbml_channel.digest_of_files(head jsonb)
returns text
language plpgsql stable parallel restricted security invoker
set search_path = pg_catalog, pg_temp
as $$
-- As dbml.register_model_files has it: of one pickle it is the file's own, of a folder that of the list of its files.
declare
    listed jsonb;
begin
    select jsonb_agg(jsonb_build_object('path', f.path, 'sha256', a.digest, 'size', a.size_bytes) order by f.path) into listed
    from jsonb_to_recordset(head -> 'files') f(path text, artifact text)
    left join dbml.artifacts a on (a.run_id, a.name) = ((head ->> 'run_id')::uuid, f.artifact);
    return case when head ->> 'format' = 'files' then encode(sha256(convert_to(jsonb_build_object('files', listed)::text, 'UTF8')), 'hex')
        else listed -> 0 ->> 'sha256' end;
end
$$;
comment on function dbml_channel.digest_of_files(jsonb) is 'The digest that a model of these artifacts has.';

-- The one connection to the worker that a session keeps, named after how deep the call is nested: an
-- input query may itself call predict.  Definer, all of them: they use dblink with the owner's password.
-- A caller who sends on the open connection can do nothing but spoil its own call: whatever opens a
-- call is signed, and signing decides who calls.

create or replace function dbml_channel.link()
returns text
language sql stable parallel restricted security invoker
begin atomic
    select 'dbml' || coalesce(nullif(current_setting('dbml.depth', true), ''), '0');
end;
comment on function dbml_channel.link() is 'The name of this call''s connection to the worker.';

create or replace function dbml_channel.nest(levels integer)
returns void
language sql volatile parallel restricted security invoker
begin atomic
    -- Local: a rollback takes it back with the call.
    select set_config('dbml.depth',
        (coalesce(nullif(current_setting('dbml.depth', true), ''), '0')::integer + levels)::text, true);
end;
comment on function dbml_channel.nest(integer) is 'Mark that the caller''s own query runs now, so that a call in it takes another connection.';

create or replace function dbml_channel.connect()
returns void
language plpgsql volatile parallel restricted security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    link constant text := dbml_channel.link();
    worker dbml._worker;
    said text;
begin
    if link = any (dblink_get_connections()) then
        perform dblink_disconnect(link);
    end if;
    for attempt in 1 .. 4 loop
        select * into worker from dbml._worker;
        if worker.host is null then
            raise exception 'no worker has registered with this database yet'
                using errcode = 'ML010', hint = 'start one: dbml worker (or dbml up); dbml verify says more';
        end if;
        begin
            perform dblink_connect(link, format(
                'host=%L port=%s user=dbml password=%L dbname=dbml connect_timeout=5 sslmode=disable gssencmode=disable'
                ' application_name=dbml client_encoding=UTF8', worker.host, worker.port, worker.password));
            return;
        exception when connection_exception then
            get stacked diagnostics said = pg_exception_detail;
            said := coalesce(said, sqlerrm);
        end;
        exit when said !~ 'authentication failed';
        -- The password may have been changed this moment, and one of the two has not heard of it.
        perform pg_sleep(0.2);
    end loop;
    if said ~ 'authentication failed' then
        raise exception 'the worker at %:% refuses the password that this database holds', worker.host, worker.port
            using errcode = 'ML012', detail = jsonb_build_object('said', said),
                  hint = 'repeat the transaction if dbml.rotate_keys was called; else the worker serves another database: restart dbml worker';
    elsif said ~ 'connections already|clients are logging in' then
        raise exception 'the worker at %:% takes no more connections', worker.host, worker.port
            using errcode = '53300', detail = jsonb_build_object('said', said),
                  hint = 'close sessions that have called it, or start it with more: dbml worker --max-connections N';
    end if;
    raise exception 'the worker does not answer at %:%', worker.host, worker.port
        using errcode = 'ML010', detail = jsonb_build_object('said', said),
              hint = 'start it: dbml worker (or dbml up); dbml verify says more';
end
$$;
comment on function dbml_channel.connect() is 'Open this call''s connection to the worker afresh.';

create or replace function dbml_channel.send(message text)
returns void
language plpgsql volatile parallel restricted security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    said text;
begin
    if dblink_send_query(dbml_channel.link(), message) = 0 then
        said := dblink_error_message(dbml_channel.link());
        if said ~ 'another command' then
            raise exception 'the connection to the worker is busy' using errcode = 'ML014', detail = jsonb_build_object('said', said);
        end if;
        raise exception 'the connection to the worker is lost: %', said using errcode = '08006';
    end if;
end
$$;
comment on function dbml_channel.send(text) is 'Send a message to the worker without waiting for its answer.';

create or replace function dbml_channel.receive()
returns table (tag text, head text, body text)
language plpgsql volatile parallel restricted security definer
set search_path = pg_catalog, pg_temp
as $$
-- Before PostgreSQL 17 a wait inside dblink cannot be interrupted.  So the worker answers within 0.2 s, if only
-- by "wait", and a cancellation is seen between two looks (docs/decisions/0004).
declare
    link constant text := dbml_channel.link();
    again boolean;
begin
    loop
        again := false;
        for tag, head, body in select * from dblink_get_result(link) as t(tag text, head text, body text) loop
            if tag = 'wait' then
                again := true;
            else
                return next;
            end if;
        end loop;
        -- The end of the answer comes with it: libpq must have seen it before the next message, and mostly has by a glance.
        if dblink_is_busy(link) <> 0 then
            perform * from dblink_get_result(link) as t(tag text, head text, body text);
        end if;
        exit when not again;
        -- dblink does not see that the postmaster has died, and a backend that stays keeps another from starting; this does.
        perform pg_sleep(0.001);
        perform dblink_send_query(link, 'wait {}');
    end loop;
end
$$;
comment on function dbml_channel.receive() is 'Wait for the worker''s answer; a wait that statement_timeout and a cancel request end.';

create or replace function dbml_channel.exchange(message text)
returns table (tag text, head text, body text)
language plpgsql volatile parallel restricted security definer
set search_path = pg_catalog, pg_temp
as $$
-- Not dblink(...), which waits for the remote query to end before it gives way to a cancellation.
begin
    perform dbml_channel.send(message);
    return query select * from dbml_channel.receive();
end
$$;
comment on function dbml_channel.exchange(text) is 'Send a message to the worker and wait for its answer.';

create or replace function dbml_channel._open_call(request jsonb, body text default null)
returns table (tag text, head text, body_ text)
language plpgsql volatile parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads the signing key.  The request says who calls; the session decides who that is.  Called by definers that
-- have made the request: what a person makes goes through open_call.
as $$
declare
    link constant text := dbml_channel.link();
    header text;
    message text;
    fresh boolean := not coalesce(link = any (dblink_get_connections()), false);
    waits boolean := false;
    refused integer := 0;
    inner_key bytea; outer_key bytea; protocol integer;
begin
    -- Nothing to authorize about a prediction: who asks for it has found the model for the caller.
    if coalesce(request ->> 'kind', '') not in ('score', 'ping') then
        request := dbml_channel._authorize(request);
    end if;
    if fresh then
        perform dbml_channel.connect();
    end if;
    loop
        select w.inner_key, w.outer_key, w.protocol into inner_key, outer_key, protocol from dbml._worker w;
        header := (request || jsonb_build_object(
            'protocol', protocol, 'user', dbml_channel.caller(), 'session_user', session_user,
            'nonce', gen_random_uuid(), 'expires', extract(epoch from clock_timestamp()) + 60))::text;
        -- HMAC-SHA-256, RFC 2104, with both padded keys made once at installation.
        message := 'open '
            || encode(sha256(outer_key || sha256(inner_key || convert_to(header, 'UTF8'))), 'hex')
            || ' ' || header || E'\n' || coalesce(body, '');
        begin
            -- As exchange and receive do, but in place: every function with a search_path of its own is felt in a one-row call.
            if dblink_send_query(link, message) = 0 then
                raise exception 'the connection to the worker is busy' using errcode = 'ML014';
            end if;
            for tag, head, body_ in select * from dblink_get_result(link) as t(tag text, head text, body text) loop
                waits := tag = 'wait';
                if not waits then
                    fresh := true;   -- what has been answered is not asked again
                    return next;
                end if;
            end loop;
            if waits or dblink_is_busy(link) <> 0 then
                perform * from dblink_get_result(link) as t(tag text, head text, body text);
            end if;
            if waits then
                perform dblink_send_query(link, 'wait {}');
                return query select * from dbml_channel.receive();
            end if;
            return;
        exception when connection_exception or internal_error or sqlstate 'ML014' then
            -- The kept connection has died or was left in the middle of a call: nothing has run yet, so try a new one, once.
            if fresh then
                raise;
            end if;
            perform dbml_channel.connect();
            fresh := true;
        when sqlstate 'ML012' then
            -- The key may have been changed this moment, and one of the two has not heard of it.
            refused := refused + 1;
            if refused > 2 or sqlerrm !~ 'not signed' then
                raise;
            end if;
            perform pg_sleep(0.2);
            perform dbml_channel.connect();
        end;
    end loop;
end
$$;
comment on function dbml_channel._open_call(jsonb, text) is 'Open a call: sign the request as the session''s caller and send it.';

create or replace function dbml_channel.open_call(request jsonb, body text default null)
returns table (tag text, head text, body_ text)
language plpgsql volatile parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: signs.  Whatever the request says, the caller gets no more by it than by run_script or run_stored.
as $$
begin
    if coalesce(request ->> 'kind', '') not in ('script', 'environment') then
        raise exception 'this opens only scripts and environments, got %', coalesce(request -> 'kind', 'null') using errcode = 'ML009';
    end if;
    return query select o.tag, o.head, o.body_ from dbml_channel._open_call(request, body) o;
end
$$;
comment on function dbml_channel.open_call(jsonb, text) is 'Open the call of a script or environment, after the caller''s right to it has been checked.';

create or replace function dbml_channel.abandon(state text, message text)
returns void
language plpgsql volatile parallel restricted security definer
set search_path = pg_catalog, pg_temp
as $$
-- After an error: tell the worker to stop and record why, leave the connection clean, and turn a lost
-- connection into an error of its own.
declare
    link constant text := dbml_channel.link();
begin
    if not coalesce(link = any (dblink_get_connections()), false) then
        return;
    end if;
    if state = '57014' then
        -- A cancelled wait: the worker stops as soon as it sees the connection go.
        begin
            perform dblink_cancel_query(link);
        exception when others then null;
        end;
        perform dblink_disconnect(link);
        return;
    end if;
    begin
        perform * from dblink_get_result(link, false) as t(tag text, head text, body text);
        perform * from dblink_get_result(link, false) as t(tag text, head text, body text);
        -- To the end of the answer, which may be "wait" at first: the next call is not to find this one unanswered.
        perform * from dbml_channel.exchange('abandon ' || jsonb_build_object('sqlstate', state, 'message', message)::text);
    exception when others then
        perform dblink_disconnect(link);
        if state like '08%' then
            raise exception 'the worker went away in mid-call'
                using errcode = 'ML011', detail = jsonb_build_object('said', message),
                      hint = 'dbml verify says whether it is back; the call can be repeated';
        end if;
    end;
end
$$;
comment on function dbml_channel.abandon(text, text) is 'End this session''s open call after an error, and say so to the worker.';

-- dblink lives in whatever schema it was created in, often one in which others may create functions too.  That schema is
-- on no search_path here, where a function of theirs could be found before one of PostgreSQL's own: dblink's are named with it.
do $$
declare
    home constant text := (select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'dblink');
    signature text;
begin
    foreach signature in array array['connect()', 'send(text)', 'receive()', 'exchange(text)', '_open_call(jsonb, text)',
                                     'abandon(text, text)'] loop
        execute regexp_replace(pg_get_functiondef(('dbml_channel.' || signature)::regprocedure),
            '\m(dblink(_[a-z_]+)?\()', replace(quote_ident(home), '\', '\\') || '.\1', 'g');
    end loop;
end
$$;

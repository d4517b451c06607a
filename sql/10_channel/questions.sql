create or replace function dbml_channel.ask(request jsonb)
returns setof jsonb
language plpgsql volatile parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: what is asked here changes nothing, but for a cancellation, which the worker allows to whom it
-- belongs; and of what runs, the caller hears what is in its workspaces.
as $$
begin
    if coalesce(request ->> 'kind', '') not in ('ping', 'active', 'cancel') then
        raise exception 'this asks only for ping, active and cancel, got %', request -> 'kind' using errcode = 'ML009';
    end if;
    perform dbml_channel.nest(1);   -- a call of the same session may be open
    return query select t.head::jsonb from dbml_channel._open_call(request) as t(tag, head, body)
        -- The worker tells of all its scripts; the caller hears of those in its workspaces.
        where request ->> 'kind' <> 'active' or dbml_channel.is_administrator(dbml_channel.caller()) or t.head::jsonb ->> 'workspace' = any (array(
            select w.name::text from dbml._workspaces w where w.workspace_id = any (array(select dbml_channel.workspaces('read')))));
    perform dbml_channel.nest(-1);
end
$$;
comment on function dbml_channel.ask(jsonb) is 'Ask the worker something that has one answer.';

create or replace function dbml_channel.ping()
returns jsonb
language sql volatile parallel restricted security invoker
begin atomic
    select a from dbml_channel.ask('{"kind": "ping"}') a;
end;
comment on function dbml_channel.ping() is 'Ask the worker for its version and state, through dblink, with a signed request.';

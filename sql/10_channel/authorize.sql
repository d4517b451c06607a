create or replace function dbml_channel._authorize(request jsonb)
returns jsonb
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads stored scripts and grants, which are private.  Only open_call asks it, for the session's caller.
as $$
declare
    caller constant text := dbml_channel.caller();
    stored record;
begin
    -- Who waits in the worker's queue, and who does not because a call of the same session does, goes by this.
    request := request || jsonb_build_object('backend_pid', pg_backend_pid());
    if request ->> 'kind' = 'script' and request ? 'stored_script' then
        stored := dbml_channel._find_script(request ->> 'stored_script', (request ->> 'workspace_id')::bigint, caller);
        request := request || jsonb_build_object('script', stored.script, 'language', stored.language,
            'params', stored.defaults || (request -> 'params'),
            'stored_script', stored.name, 'stored_version', stored.version);
    elsif request ->> 'kind' = 'environment' and request ->> 'form' = 'build' then
        -- Who may use an environment may have it built; what is no environment's lock is nobody's to build.
        if not exists (select from dbml._environments e where e.lock_sha256 = request ->> 'lock_sha256') then
            raise exception 'the lock % is of no environment', request ->> 'lock_sha256' using errcode = 'ML036';
        end if;
    elsif request ->> 'kind' in ('script', 'environment') and not has_function_privilege(caller, 'dbml.run_script'::regproc::oid, 'execute') then
        raise insufficient_privilege using message = format('role %s may not run scripts', caller),
            hint = format('GRANT dbml_scripter TO %I', caller);
    elsif request ->> 'kind' = 'cancel' then
        return request || jsonb_build_object('admin', pg_has_role(caller,
            (select n.nspowner from pg_namespace n where n.nspname = 'dbml'), 'member'));
    end if;
    if request ->> 'kind' = 'script' then
        -- From where, for the record, and the limits: what the request says of these is what its maker would like.
        request := request - 'refusal' || jsonb_build_object('database', current_database(), 'client_address', inet_client_addr(),
            'application', current_setting('application_name')) || dbml_channel._choose_pool(request ->> 'pool', caller);
        if request ? 'refusal' then
            return request || '{"kind": "refused"}';
        end if;
    elsif request ->> 'kind' = 'refused' then
        raise exception 'a call of kind refused is made here alone' using errcode = 'ML009';
    end if;
    return request;
end
$$;
comment on function dbml_channel._authorize(jsonb) is
    'Check that the caller may make a request, and add to it what only the owner knows: a stored script''s text, the limits of the pool.';

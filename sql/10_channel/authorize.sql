create or replace function dbml_channel._authorize(request jsonb)
returns jsonb
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads stored scripts and grants, which are private.  Only _open_call asks it, for the session's caller.
as $$
declare
    caller constant text := dbml_channel.caller();
    home bigint;
    stored record;
begin
    -- Who waits in the worker's queue, and who does not because a call of the same session does, goes by this.
    request := request || jsonb_build_object('backend_pid', pg_backend_pid());
    if request ->> 'kind' = 'script' then
        home := (request ->> 'workspace_id')::bigint;
        request := request - 'submitted';   -- a snapshot's digest does not give a right to it; a run that is repeated does
        if request ? 'replay_of' then   -- whoever may run a stored script may not thereby run another's snapshot
            request := request - 'stored_script' || dbml_channel._repeat(request);
        end if;
        if request ? 'stored_script' then
            stored := dbml_channel._find_script(request ->> 'stored_script', home, caller);
            request := request || jsonb_build_object('script', stored.script, 'language', stored.language,
                'params', stored.defaults || (request -> 'params'),
                'stored_script', stored.name, 'stored_version', stored.version);
        elsif not has_function_privilege(caller, 'dbml.run_script'::regproc::oid, 'execute') then
            perform dbml_channel._refuse_scripts(caller);
        else
            perform dbml_channel.require(home, 'write');
        end if;
        -- From where, for the record, the limits, and what belongs to the workspace: what the request says of these is what
        -- its maker would like.
        request := request - 'refusal' || jsonb_build_object('database', current_database(), 'client_address', inet_client_addr(),
            'application', current_setting('application_name'), 'environment', (
                select jsonb_build_object('id', e.environment_id, 'name', e.name, 'version', e.version,
                                          'python_version', e.python_version, 'lock_sha256', e.lock_sha256)
                from dbml._environments e
                where e.workspace_id = home and e.environment_id = (request -> 'environment' ->> 'id')::bigint),
            'workspace', (select w.name from dbml._workspaces w where w.workspace_id = home))
            || dbml_channel._choose_pool(request ->> 'pool', caller);
        if request ->> 'workspace' is null then
            raise exception 'a script must have a workspace, got %', coalesce(home::text, 'NULL') using errcode = 'ML050',
                hint = 'SELECT workspace_id, name FROM dbml.workspaces';
        elsif request ? 'refusal' then
            return request || '{"kind": "refused"}';
        end if;
    elsif request ->> 'kind' = 'environment' and request ->> 'form' = 'build' then
        -- What is no environment's lock is nobody's to build.
        if not exists (select from dbml._environments e
                       where e.lock_sha256 = request ->> 'lock_sha256' and dbml_channel.may(e.workspace_id, 'use')) then
            raise exception 'the lock % is of no environment', request ->> 'lock_sha256' using errcode = 'ML036';
        end if;
    elsif request ->> 'kind' = 'environment' and not has_function_privilege(caller, 'dbml.run_script'::regproc::oid, 'execute') then
        perform dbml_channel._refuse_scripts(caller);
    elsif request ->> 'kind' = 'cancel' then
        -- Whoever owns the workspace of a run may stop it; everybody his own, as the worker knows them.
        return request || jsonb_build_object('admin', dbml_channel.is_administrator(caller)
            or exists (select from dbml._runs r where r.run_id = (request ->> 'run_id')::uuid
                       and dbml_channel.may(r.workspace_id, 'own')));
    end if;
    return request;
end
$$;
comment on function dbml_channel._authorize(jsonb) is
    'Check that the caller may make a request, and add to it what only the owner knows: a stored script''s text, the limits of the pool.';

create or replace function dbml_channel._refuse_scripts(caller text)
returns void
language plpgsql stable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    raise insufficient_privilege using message = format('role %s may not run scripts', caller),
        hint = format('GRANT dbml_scripter TO %I', caller);
end
$$;
comment on function dbml_channel._refuse_scripts(text) is 'Raise that a role may not run scripts.';

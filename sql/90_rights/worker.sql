-- What the worker's login may: what the statements of dbml/store do, on tables of schema dbml and by functions made for it.  It owns
-- nothing, and what the operator grants to others does not reach it.
do $$
declare
    granted text;
    given regprocedure;
begin
    if to_regrole('dbml_worker') is null then
        return;
    end if;
    revoke all on all tables in schema dbml from dbml_worker;
    revoke all on all routines in schema dbml, dbml_channel from dbml_worker;
    grant usage on schema dbml, dbml_channel, dbml_runtime to dbml_worker;
    foreach granted in array array[
        'select (only_row, protocol, host, port, password, secret, former_password, former_secret, former_until), update (protocol, host, port, registered_at, packages) on dbml._worker',
        'insert on dbml._experiments', 'select, insert, update on dbml._runs', 'insert on dbml._metrics',
        'insert on dbml._chunks', 'insert on dbml._blobs', 'insert on dbml._blob_chunks',
        'insert on dbml._log_chunks', 'select (run_id) on dbml._submissions', 'select, insert, update on dbml._artifacts', 'select, insert, update on dbml._outputs', 'insert on dbml._output_parts']
    loop
        execute format('grant %s to dbml_worker', granted);
    end loop;
    -- Those for the worker are of a version; the others cut the rows of an input into chunks.
    for given in select p.oid::regprocedure from pg_proc p
                 where p.pronamespace = 'dbml_channel'::regnamespace
                   and (p.proname ~ '^_.*_v[0-9]+$' or p.proname in ('chunk_query', 'fetch_rows', 'next_chunk_rows')) loop
        execute format('grant execute on function %s to dbml_worker', given);
    end loop;
    begin
        -- So that a worker with the owner's login can lay down the rest.  A superuser can anyhow.
        if not (select r.rolsuper from pg_roles r where r.rolname = current_user) then
            execute format('grant dbml_worker to %I', current_user)
                || case when current_setting('server_version_num')::integer >= 160000 then ' with inherit false, set true' else '' end;
        end if;
    exception when insufficient_privilege then
        raise notice 'role % may not grant dbml_worker: a worker that logs in as it has all its rights', current_user;
    end;
end
$$;

-- What the worker's login may: what the statements of dbml/store do, on tables of schema dbml, and nothing else.  It owns
-- nothing, and what the operator grants to others does not reach it.
do $$
declare
    granted text;
begin
    if to_regrole('dbml_worker') is null then
        return;
    end if;
    revoke all on all tables in schema dbml from dbml_worker;
    grant usage on schema dbml to dbml_worker;
    foreach granted in array array[
        'select (only_row, protocol, host, port, password, secret), update (protocol, host, port, registered_at, packages) on dbml._worker',
        'insert on dbml._experiments', 'select, insert, update on dbml._runs', 'insert on dbml._metrics',
        'insert on dbml._chunks', 'insert on dbml._blobs', 'insert on dbml._blob_chunks',
        'select, insert, update on dbml._artifacts', 'select, insert, update on dbml._outputs', 'insert on dbml._output_parts']
    loop
        execute format('grant %s to dbml_worker', granted);
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

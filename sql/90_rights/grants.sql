-- Who may do what.  Nothing for PUBLIC: three roles without login, granted by the operator with GRANT
-- dbml_scripter TO alice.  Where the installing role may not create roles, the owner grants by hand
-- (docs/how-to/grant-access.md).  Everything that begins with _ stays with the owner.
revoke all on schema dbml, dbml_channel from public;
revoke all on all tables in schema dbml from public;
revoke all on all routines in schema dbml, dbml_channel from public;

do $$
declare
    wanted text;
    routine record;
begin
    foreach wanted in array array['dbml_scripter', 'dbml_predictor', 'dbml_reader'] loop
        begin
            if to_regrole(wanted) is null then
                execute format('create role %I nologin', wanted);
            end if;
        exception
            when duplicate_object or unique_violation then null;   -- another database's install was first
            when insufficient_privilege then
                raise notice 'role % is not there and may not be created here: the owner alone may use dbml until it grants rights', wanted;
        end;
        continue when to_regrole(wanted) is null;
        execute format('grant usage on schema dbml, dbml_channel to %I', wanted);
        for routine in
            select p.oid::regprocedure::text as signature, p.prokind, n.nspname, p.proname
            from pg_proc p join pg_namespace n on n.oid = p.pronamespace
            where n.nspname in ('dbml', 'dbml_channel') and p.proname !~ '^_'
        loop
            if wanted = 'dbml_scripter'
               or wanted = 'dbml_predictor' and (routine.nspname = 'dbml_channel' and routine.proname not in ('receive_model', 'run_call')
                                                or routine.proname like 'predict%')
            then
                execute format('grant execute on routine %s to %I', routine.signature, wanted);
            end if;
        end loop;
    end loop;
    foreach wanted in array array['dbml_scripter', 'dbml_reader'] loop
        continue when to_regrole(wanted) is null;
        execute format('grant select on dbml.workspaces, dbml.datasets, dbml.models, dbml.experiments, dbml.runs, dbml.metrics, dbml.artifacts,'
            ' dbml.outputs, dbml.scripts, dbml.active_scripts, dbml.script_stats, dbml.worker_status, dbml.environments, dbml.pools, dbml.snapshots to %I', wanted);
    end loop;
    -- A new version of dbml may have functions that the old one had not.
    for wanted in select distinct g.grantee from dbml._script_grants g join pg_roles r on r.rolname = g.grantee loop
        perform dbml_channel._grant_stored(wanted);
    end loop;
end
$$;

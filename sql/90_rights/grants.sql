-- Who may do what.  Nothing for PUBLIC: roles without login, granted by the operator with GRANT dbml_scripter TO alice.
-- Where the installing role may not create roles, the owner grants by hand (docs/how-to/grant-access.md).  Everything that
-- begins with _ stays with the owner.  Which workspace these reach into is another matter: dbml.grant_workspace.
revoke all on schema dbml, dbml_channel, dbml_runtime from public;
revoke all on all tables in schema dbml from public;
revoke all on all routines in schema dbml, dbml_channel from public;

do $$
declare
    wanted text;
    use text;
    given regprocedure;
    seen regclass;
begin
    foreach wanted in array array['dbml_admin', 'dbml_scripter', 'dbml_predictor', 'dbml_reader', 'dbml_worker'] loop
        begin
            if to_regrole(wanted) is null then
                execute format('create role %I nologin', wanted);
            end if;
        exception
            when duplicate_object or unique_violation then null;   -- another database's install was first
            when insufficient_privilege then
                raise notice 'role % is not there and may not be created here: the owner alone may use dbml until it grants rights', wanted;
        end;
        continue when to_regrole(wanted) is null or wanted = 'dbml_worker';
        use := case wanted when 'dbml_predictor' then 'predict' when 'dbml_reader' then 'read' else 'run' end;
        execute format('grant usage on schema dbml, dbml_channel to %I', wanted);
        for given in select f.routine from dbml_channel._routines_for(use) f(routine)
                     where wanted <> 'dbml_reader' or f.routine::text !~ '^dbml\.(predict|\w+_predictions)' loop
            execute format('grant execute on routine %s to %I', given, wanted);
        end loop;
        if use = 'run' then   -- who submits a script makes functions that hold its queries
            execute format('grant usage, create on schema dbml_runtime to %I', wanted);
        end if;
        continue when wanted = 'dbml_predictor';
        for seen in select v.view_ from dbml_channel._views() v(view_) loop
            execute format('grant select on %s to %I', seen, wanted);
        end loop;
    end loop;
    -- A new version of dbml may have functions that the old one had not.
    for wanted, use in
        select g.grantee, 'stored' from dbml._script_grants g
        union select g.grantee, case g.privilege when 'predictor' then 'predict' when 'reader' then 'read' else 'write' end from dbml._workspace_grants g
        union select g.grantee, g.privilege from dbml._model_grants g
    loop
        if wanted !~ '^dbml_(admin|scripter|predictor|reader)$' and to_regrole(quote_ident(wanted)) is not null then
            perform dbml_channel._grant_uses(wanted, use);
        end if;
    end loop;
end
$$;

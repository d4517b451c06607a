create or replace function dbml.grant_workspace(workspace text, role text, privilege text)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table, and grants on functions that belong to the owner; for owners of the workspace.
as $$
declare
    home bigint := (dbml_channel.find_workspace(workspace, 'own')).id;
begin
    if privilege is null or privilege not in ('owner', 'contributor', 'reader', 'predictor') then
        raise exception 'privilege must be owner, contributor, reader or predictor, got %', coalesce(quote_literal(privilege), 'NULL')
            using errcode = 'ML009', detail = jsonb_build_object('argument', 'privilege', 'value', privilege);
    end if;
    perform dbml_channel._check_grantee(role);
    insert into dbml._workspace_grants (workspace_id, grantee, privilege, granted_by)
    values (home, role, grant_workspace.privilege, dbml_channel.caller())
    on conflict on constraint _workspace_grants_pkey do update
    set privilege = excluded.privilege, granted_at = excluded.granted_at, granted_by = excluded.granted_by;
    perform dbml_channel._grant_uses(role, case grant_workspace.privilege when 'predictor' then 'predict' when 'reader' then 'read' else 'write' end);
end
$$;
comment on function dbml.grant_workspace(text, text, text) is
'Let a role and its members into a workspace: as predictor, reader, contributor or owner.

A predictor scores with its models and sees nothing. A reader also sees what is in it, and its bytes. A contributor also registers, changes and deletes models,
stored scripts and environments, and its scripts run there; to run scripts at all takes dbml_scripter too. An owner also
grants. A role is one of these in a workspace, the last that was said; of what its groups are, the most counts.
role is a role, or public for everybody who may use dbml. NULL for workspace means SET dbml.workspace, else default.
Errors: 42501 not an owner of the workspace; ML050 no such workspace; ML009 another privilege; 42704 no such role.
Example: SELECT dbml.create_workspace(''shared-work'', exist_ok => true);
    SELECT dbml.grant_workspace(''shared-work'', ''pg_monitor'', ''reader'');';

create or replace function dbml_channel._check_grantee(role text)
returns void
language plpgsql stable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if role is null or role <> 'public' and to_regrole(quote_ident(role)) is null then
        raise exception 'role "%" does not exist', role using errcode = 'undefined_object';
    end if;
end
$$;
comment on function dbml_channel._check_grantee(text) is 'Refuse to grant to a role that is not there.';

create or replace function dbml_channel._grant_uses(role text, privilege text)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: grants on the owner's functions and views, which check for themselves what their caller may do with what.
as $$
declare
    used regclass;
    routine regprocedure;
begin
    if role = 'public' or has_schema_privilege(role, 'dbml', 'create') then   -- nothing to PUBLIC; the owner has all
        return;
    end if;
    execute format('grant usage on schema dbml, dbml_channel to %I', role);
    for routine in select f.routine from dbml_channel._routines_for(privilege) f(routine)
                   where not has_function_privilege(role, f.routine, 'execute') loop
        execute format('grant execute on routine %s to %I', routine, role);
    end loop;
    if privilege in ('read', 'write') then
        for used in select v.view_ from dbml_channel._views() v(view_) where not has_table_privilege(role, v.view_, 'select') loop
            execute format('grant select on %s to %I', used, role);
        end loop;
    end if;
end
$$;
comment on function dbml_channel._grant_uses(text, text) is
    'Give a role the functions and views that a right to predict, read or write is used by, and none that runs scripts.';

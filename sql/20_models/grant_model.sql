create or replace function dbml.grant_model(model text, role text, privilege text, workspace text default null)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table, and grants on functions that belong to the owner.
as $$
declare
    home bigint;
begin
    if privilege is null or privilege not in ('predict', 'read', 'write') then
        raise exception 'privilege must be predict, read or write, got %', coalesce(quote_literal(privilege), 'NULL')
            using errcode = 'ML009', detail = jsonb_build_object('argument', 'privilege', 'value', privilege);
    end if;
    home := dbml_channel._own_model(model, workspace);
    perform dbml_channel._check_grantee(role);
    insert into dbml._model_grants (workspace_id, name, grantee, privilege, granted_by)
    values (home, model, role, grant_model.privilege, dbml_channel.caller())
    on conflict on constraint _model_grants_pkey do update
    set privilege = excluded.privilege, granted_at = excluded.granted_at, granted_by = excluded.granted_by;
    perform dbml_channel._grant_uses(role, grant_model.privilege);
end
$$;
comment on function dbml.grant_model(text, text, text, text) is
'Let a role and its members predict with a model, read it, or write it, whatever its version, and no other model.

predict is every way of scoring, and neither shows the model nor its bytes. read also shows it in dbml.models and gives
its bytes, to scripts too. write also registers versions, sets aliases and deletes. A role has one of these on a model,
the last that was said; of what its groups have, the most counts, and so does what the workspace gives.
Who registered the model and owners of the workspace grant. model is a name without a version. role is a role, or public
for everybody who may use dbml.
Errors: ML020 no such model; 42501 it is another role''s; ML009 another privilege, or a version; 42704 no such role.
Example: SELECT dbml.grant_model(''demo-iris'', ''pg_monitor'', ''predict'');
    SELECT dbml.revoke_model(''demo-iris'', ''pg_monitor'');';

create or replace function dbml_channel._own_model(model text, workspace text)
returns bigint
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads a private table; called by definers only.
as $$
declare
    lent record;
    maker text;
begin
    if model ~ '[:@]' then
        raise exception 'a grant is on a model''s name, whatever its version, got %', quote_literal(model) using errcode = 'ML009',
            detail = jsonb_build_object('argument', 'model', 'value', model),
            hint = 'leave out what follows the name: ' || quote_literal(split_part(split_part(model, '@', 1), ':', 1));
    end if;
    lent := dbml_channel.find_model(model, workspace, 'read');
    select m.created_by into maker from dbml._models m
    where (m.workspace_id, m.name::text) = (lent.workspace_id, model) order by m.version limit 1;
    if not (dbml_channel.may(lent.workspace_id, 'own')
            or maker = dbml_channel.caller() and dbml_channel.may_use_model(lent.workspace_id, model, 'write')) then
        raise insufficient_privilege using message = format('model "%s" belongs to role %s', model, maker),
            detail = jsonb_build_object('model', model, 'role', dbml_channel.caller()),
            hint = 'ask its maker or an owner of the workspace: SELECT * FROM dbml.permissions';
    end if;
    return lent.workspace_id;
end
$$;
comment on function dbml_channel._own_model(text, text) is
    'The workspace of a model that is the caller''s to grant: its first version''s maker''s, or an owner''s of the workspace.';

create or replace function dbml.revoke_model(model text, role text, workspace text default null)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    home constant bigint := dbml_channel._own_model(model, workspace);
begin
    delete from dbml._model_grants g where (g.workspace_id, g.name::text, g.grantee) = (home, revoke_model.model, revoke_model.role);
    return found;
end
$$;
comment on function dbml.revoke_model(text, text, text) is
'Take back what dbml.grant_model gave to a role; returns whether it had anything. What its groups and the workspace give stays.

Errors: as dbml.grant_model.
Example: SELECT dbml.grant_model(''demo-iris'', ''pg_monitor'', ''predict'');
    SELECT dbml.revoke_model(''demo-iris'', ''pg_monitor'');';

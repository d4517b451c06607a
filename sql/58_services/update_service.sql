create or replace function dbml.update_service(
    service      text,
    model        text    default null,
    image        text    default null,
    config       jsonb   default null,
    auth_enabled boolean default null,
    description  text    default null,
    tags         jsonb   default null,
    properties   jsonb   default null,
    workspace    text    default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    known dbml._services;
    made integer;
begin
    known := dbml_channel._find_service(service, workspace, 'write');
    perform dbml_channel._check_service(coalesce(config, '{}'), coalesce(tags, '{}'), coalesce(properties, '{}'));
    if properties is not null and exists (select from jsonb_each(properties) e where known.properties -> e.key <> e.value) then
        raise exception 'a property of service "%" must stay what it is, got %', service, properties using errcode = 'ML009';
    end if;
    update dbml._services s
    set models = case when model is null and update_service.image is null then s.models
                 else dbml_channel._models_of_service(model, update_service.image, (select w.name from dbml._workspaces w where w.workspace_id = s.workspace_id)) end,
        image = case when model is null then coalesce(update_service.image, s.image) else update_service.image end,
        config = s.config || coalesce(update_service.config, '{}'),
        auth_enabled = coalesce(update_service.auth_enabled, s.auth_enabled),
        description = coalesce(update_service.description, s.description),
        tags = coalesce(update_service.tags, s.tags),
        properties = s.properties || coalesce(update_service.properties, '{}'),
        generation = s.generation + 1, error = null, updated_at = now()
    where s.service_id = known.service_id
    returning s.generation into made;
    return made;
end
$$;
comment on function dbml.update_service(text, text, text, jsonb, boolean, text, jsonb, jsonb, text) is
'Let a service serve another version, or otherwise, and without a request that fails; returns the new generation.

What is NULL stays. The former version answers until the new one does; where that does not come up, it goes on answering,
and dbml.services says why. With nothing but the name, it is loaded again. To go back, name the version before.
Errors: ML009 a config that is not valid; ML020 no such model; ML080 no such service.
Example: BEGIN; SELECT dbml.deploy(''demo-diabetes:1'', ''my-service''); SELECT dbml.update_service(''my-service'', model => ''demo-diabetes''); ROLLBACK;';

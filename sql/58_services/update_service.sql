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
    fresh boolean;
    wanted jsonb;
    made integer;
begin
    known := dbml_channel._find_service(service, workspace, 'write');
    perform dbml_channel._check_service(coalesce(config, '{}'), coalesce(tags, '{}'), coalesce(properties, '{}'));
    if properties is not null and exists (select from jsonb_each(properties) e where known.properties -> e.key <> e.value) then
        raise exception 'a property of service "%" must stay what it is, got %', service, properties using errcode = 'ML009';
    end if;
    -- Another model or image comes with its own score.py, or with the one that is made for it.
    fresh := model is not null or image is not null or config ? 'models';
    wanted := case when fresh then known.config - array['snapshot', 'entry_script', 'models'] else known.config end || coalesce(config, '{}');
    update dbml._services s
    set models = case when fresh then dbml_channel._models_of_service(update_service.model, update_service.image, wanted, w.name) else s.models end,
        image = case when fresh then update_service.image else s.image end,
        config = wanted,
        auth_enabled = coalesce(update_service.auth_enabled, s.auth_enabled),
        description = coalesce(update_service.description, s.description),
        tags = coalesce(update_service.tags, s.tags),
        properties = s.properties || coalesce(update_service.properties, '{}'),
        generation = s.generation + 1, error = null, updated_at = now()
    from dbml._workspaces w
    where s.service_id = known.service_id and w.workspace_id = s.workspace_id
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

create or replace function dbml.deploy(
    model        text,
    service      text,
    target       text    default 'process',
    image        text    default null,
    compute_type text    default 'Local',
    config       jsonb   default '{}',
    auth_enabled boolean default false,
    description  text    default null,
    tags         jsonb   default '{}',
    properties   jsonb   default '{}',
    overwrite    boolean default false,
    workspace    text    default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    home record;
    served text[];
    made integer;
begin
    home := dbml_channel.find_workspace(workspace, 'write');
    served := dbml_channel._models_of_service(model, image, config, home.name);
    perform dbml_channel._check_service(config, tags, properties);
    insert into dbml._services as s (workspace_id, name, models, image, target, compute_type, config, auth_enabled, description, tags,
                                     properties, primary_key, secondary_key, created_by)
    values (home.id, service, served, image, target, compute_type, coalesce(config, '{}'), coalesce(auth_enabled, false),
            description, coalesce(tags, '{}'), coalesce(properties, '{}'), dbml_channel._new_key(), dbml_channel._new_key(),
            dbml_channel.caller())
    on conflict (workspace_id, name) do update
        set models = excluded.models, image = excluded.image, config = excluded.config, auth_enabled = excluded.auth_enabled,
            description = excluded.description, tags = excluded.tags, properties = excluded.properties,
            generation = s.generation + 1, error = null, updated_at = now()
        where deploy.overwrite and s.target = excluded.target
    returning s.generation into made;
    if made is null then
        raise exception 'service "%" exists in workspace "%"%', service, home.name,
            case when overwrite then ', with another target' else '' end
            using errcode = 'ML081', detail = jsonb_build_object('service', service, 'workspace', home.name),
                  hint = format('SELECT dbml.update_service(%L, model => %L)', service, model);
    end if;
    return made;
exception when check_violation or not_null_violation then
    raise exception 'a service''s name must be letters, digits and -, up to 63, its target process, docker, compose or kubernetes, and its compute_type Local, ACI, AKS or IOT, got %, % and %',
        coalesce(quote_literal(service), 'NULL'), coalesce(quote_literal(target), 'NULL'), coalesce(quote_literal(compute_type), 'NULL')
        using errcode = 'ML009';
end
$$;
comment on function dbml.deploy(text, text, text, text, text, jsonb, boolean, text, jsonb, jsonb, boolean, text) is
'Ask for a web service of a model; returns its generation, 1 for a new one.

dbml.services tells what becomes of it. A runner serves it: dbml deploy and Model.deploy start one where they run,
dbml serve-service NAME starts one on any machine that reaches this database, and what looks for services (dbml up,
dbml services serve) takes one that nobody serves. target: process, docker, compose or kubernetes.
Errors: ML009 a name, a target or a config that is not valid; ML020 no such model; ML050 no such workspace; ML081 the service exists.
Example: BEGIN; SELECT dbml.deploy(''demo-diabetes'', ''my-service''); ROLLBACK;';

create or replace function dbml_channel._models_of_service(model text, image text, config jsonb, workspace text)
returns text[]
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: finds models, for definers.
as $$
declare
    one text;
    found_model record;
    served text[] := '{}';
begin
    for one in select model where model is not null
               union all select jsonb_array_elements_text(config -> 'models') where jsonb_typeof(config -> 'models') = 'array' loop
        -- Each by its version: what an alias means may change, what is deployed does not.
        found_model := dbml_channel.find_model(one, workspace, 'read');
        if found_model.name || ':' || found_model.version <> all (served) then
            served := served || (found_model.name || ':' || found_model.version);
        end if;
    end loop;
    if cardinality(served) = 0 and image is null then
        raise exception 'a service must have a model or an image, got neither' using errcode = 'ML009';
    elsif cardinality(served) > 1 and not config ? 'snapshot' then
        raise exception 'a service of several models must have a score.py that says which answers, got %', array_to_string(served, ', ')
            using errcode = 'ML009';
    end if;
    return served;
end
$$;
comment on function dbml_channel._models_of_service(text, text, jsonb, text) is 'The models that a service is to serve, by name and version.';

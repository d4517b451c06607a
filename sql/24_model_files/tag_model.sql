create or replace function dbml.tag_model(
    model       text,
    tags        jsonb  default '{}',
    remove      text[] default '{}',
    properties  jsonb  default '{}',
    description text   default null,
    details     jsonb  default '{}',
    workspace   text   default null)
returns jsonb
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    found_model record;
    held dbml._models;
    given record;
begin
    found_model := dbml_channel.find_model(model, workspace, 'write');
    if jsonb_typeof(tags) is distinct from 'object' or jsonb_typeof(properties) is distinct from 'object'
       or jsonb_typeof(details) is distinct from 'object' or remove is null then
        raise exception 'tags, properties and details must be JSON objects and remove an array' using errcode = 'ML009';
    end if;
    select * into held from dbml._models m where m.model_id = found_model.model_id for update;
    for given in select * from jsonb_each(properties) loop
        if held.properties ? given.key and held.properties -> given.key <> given.value then
            raise exception 'a property of a model must stay what it is, "%" is % and cannot become %', given.key,
                held.properties -> given.key, given.value using errcode = 'ML009', hint = 'a tag can change';
        end if;
    end loop;
    update dbml._models m
    set tags = (m.tags - tag_model.remove) || tag_model.tags, properties = m.properties || tag_model.properties,
        details = m.details || tag_model.details, description = coalesce(tag_model.description, m.description)
    where m.model_id = found_model.model_id returning m.tags into held.tags;
    return held.tags;
end
$$;
comment on function dbml.tag_model(text, jsonb, text[], jsonb, text, jsonb, text) is
'Set tags of a model''s version and remove those named, add properties, which are for good, or describe it; returns its tags.

Errors: ML020 no such model; ML009 another value for a property.
Example: SELECT dbml.tag_model(''demo-iris:1'', ''{"checked": "yes"}'');';

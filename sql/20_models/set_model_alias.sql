create or replace function dbml.set_model_alias(model text, alias text, workspace text default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    found_model record;
begin
    select * into found_model from dbml_channel.find_model(model, workspace, 'write');
    if alias is null or alias ~ '[:@/[:cntrl:]]' or btrim(alias) <> alias or length(alias) not between 1 and 255 then
        raise exception 'an alias must have 1 to 255 characters and none of : @ /, got %', coalesce(quote_literal(alias), 'NULL')
            using errcode = 'ML009';
    end if;
    insert into dbml._model_aliases (workspace_id, name, alias, version)
    values (found_model.workspace_id, found_model.name, set_model_alias.alias, found_model.version)
    on conflict on constraint _model_aliases_pkey do update set version = excluded.version, set_at = now();
    perform dbml_channel._follow_model(found_model.workspace_id, found_model.name);
    return found_model.version;
end
$$;
comment on function dbml.set_model_alias(text, text, text) is
'Let an alias mean this version of a model: predict(''demo-iris@champion'', ...) uses it from the next statement on.

Returns the version. The former meaning of the alias is replaced.
Predictions that are kept by the alias (dbml.maintain_predictions) are scored again at once, in the same transaction.
Errors: ML020 no such model; ML009 an alias that is not plain; ML021 kept predictions lack a feature of that version.
Example: SELECT dbml.set_model_alias(''demo-iris:1'', ''champion'');';

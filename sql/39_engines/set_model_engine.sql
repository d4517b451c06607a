create or replace function dbml.set_model_engine(model text, engine text, workspace text default null)
returns text
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table, after the caller's right to the model has been checked.
as $$
declare
    lent constant record := dbml_channel.find_model(model, workspace, 'write');
begin
    if set_model_engine.engine is not null then
        perform dbml_channel._choose_engine(lent.model_id, model, set_model_engine.engine, 'predict', 'set')
        where set_model_engine.engine = 'python' or not exists (
            select from dbml._certificates c where c.model_id = lent.model_id and c.engine = set_model_engine.engine and c.status = 'certified');
    end if;
    update dbml._models m set engine = set_model_engine.engine where m.model_id = lent.model_id;
    return set_model_engine.engine;
end
$$;
comment on function dbml.set_model_engine(text, text, text) is
'Say which engine scores a version of a model: python, sql, or NULL for the fastest that has a certificate; returns it.

Later versions begin with the setting of the one before. A call''s own engine => argument goes before it.
Errors: ML020 no such model; 42501 no right to write it; ML009 no such engine; ML027 the model has no certificate for it.
Example: SELECT dbml.set_model_engine(''demo-diabetes'', ''sql''), dbml.set_model_engine(''demo-diabetes'', NULL);';

create or replace function dbml.predict_row(model text, features anyelement, engine text default null)
returns jsonb
language plpgsql stable parallel restricted security invoker
-- Invoker: turning the row to JSON may call casts of the caller's own types.
as $$
declare
    record_ jsonb := to_jsonb(features);
    quick jsonb;
begin
    if features is null and record_ is null then
        return null;
    elsif jsonb_typeof(record_) <> 'object' then
        raise exception 'features must be a row or a JSON object, got %', jsonb_typeof(record_) using errcode = 'ML009',
            hint = 'SELECT dbml.predict_row(''model'', t) FROM my_table t';
    end if;
    if engine is distinct from 'python' then
        quick := dbml_channel.score_record(model, record_, engine);
        if quick is not null then
            return quick;
        end if;
    end if;
    return (dbml_channel.score_one(model, null, 'predict', 'record', record_::text, engine)).scored::jsonb;
end
$$;
comment on function dbml.predict_row(text, anyelement, text) is
'Score a table''s row (or any record, or a jsonb object) by the names of its columns; returns the prediction as jsonb.

A number, a text label, or an array where the model predicts several values. Columns that the model does
not know are ignored.
Errors: as dbml.predict; ML021 names the feature that is missing.
Example: SELECT flower, dbml.predict_row(''demo-iris'', i) FROM demo.iris i WHERE flower <= 3;';

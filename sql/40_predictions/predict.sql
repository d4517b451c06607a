create or replace function dbml.predict(model text, features double precision[], engine text default null)
returns double precision
language plpgsql stable parallel restricted security invoker
as $$
declare
    answer record;
    quick double precision;
begin
    if features is null then
        return null;
    elsif array_ndims(features) <> 1 then
        raise exception 'features must be one-dimensional, got % dimensions', coalesce(array_ndims(features), 0)
            using errcode = 'ML009', hint = 'for many rows use SELECT * FROM dbml.predict(model, query) AS t(...)';
    end if;
    if engine is distinct from 'python' then
        quick := (dbml_channel.score_array(model, features, 'predict', engine)).number;
        if quick > '-Infinity' and quick < 'Infinity' then
            return quick;
        end if;
    end if;
    answer := dbml_channel.score_one(model, null, 'predict', 'row', encode(array_send(features), 'hex'), engine);
    if answer.label_type not in ('double precision', 'real', 'bigint', 'boolean', 'integer') then
        raise exception 'model "%" predicts % values, here "%"', model, answer.label_type, answer.scored using errcode = 'ML023',
            hint = 'dbml.predict_row(model, row) returns them as jsonb; SELECT * FROM dbml.predict(model, query) AS t(..., prediction text) as text';
    elsif answer.label_type = 'boolean' then
        return answer.scored::boolean::integer;
    end if;
    return answer.scored::double precision;
end
$$;
comment on function dbml.predict(text, double precision[], text) is
'Score one row: the features in the model''s order, NULL for a missing value; returns the prediction.

model: ''name'' (latest version), ''name:3'' or ''name@alias'', looked up in the caller''s snapshot. NULL
features give NULL. engine: ''sql'', ''onnx'' or ''python'', by default the fastest that has a certificate. A classifier whose labels are text: use predict_row or the query form.
Errors: ML020 no such model; ML009 the number of features; ML022 the bytes do not load; ML023 the model raised; ML027 it has no such
engine.
Example: SELECT dbml.predict(''demo-diabetes'', array[59, 2, 32.1, 101, 157, 93.2, 38, 4, 4.86, 87]);';

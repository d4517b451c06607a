create or replace function dbml.predict_proba(model text, features double precision[], engine text default null)
returns double precision[]
language plpgsql stable parallel restricted security invoker
as $$
declare
    quick double precision[];
begin
    if features is null then
        return null;
    elsif array_ndims(features) <> 1 then
        raise exception 'features must be one-dimensional, got % dimensions', coalesce(array_ndims(features), 0)
            using errcode = 'ML009';
    end if;
    if engine is distinct from 'python' then
        quick := (dbml_channel.score_array(model, features, 'predict_proba', engine)).numbers;
        if quick is not null then
            return quick;
        end if;
    end if;
    return (dbml_channel.score_one(model, null, 'predict_proba', 'row', encode(array_send(features), 'hex'), engine)).scored::double precision[];
end
$$;
comment on function dbml.predict_proba(text, double precision[], text) is
'Score one row with a classifier: the probability of each class, in the order of the model''s classes.

The classes are in dbml.models.signature ->> ''classes''. NULL features give NULL.
Errors: as dbml.predict; ML023 where the model has no probabilities.
Example: SELECT dbml.predict_proba(''demo-iris'', array[5.1, 3.5, 1.4, 0.2]);';

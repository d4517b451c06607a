create or replace function dbml_channel._certificate_of(certificate dbml._certificates)
returns jsonb
language sql immutable parallel safe security invoker
begin atomic
    select case when certificate.status in ('certified', 'stale') then jsonb_build_object('rows_compared', certificate.rows_compared,
        'rows_left_to_the_model', certificate.rows_left, 'thresholds', certificate.thresholds, 'thresholds_tried', certificate.thresholds_tried,
        'largest_absolute_error', certificate.max_absolute_error, 'largest_relative_error', certificate.max_relative_error,
        'tolerance', certificate.tolerance, 'server_version', certificate.server_version, 'dbml_version', certificate.dbml_version,
        'packages', certificate.packages, 'certified_at', certificate.certified_at) end;
end;
comment on function dbml_channel._certificate_of(dbml._certificates) is 'What was proven, as explain_predict shows it.';

create or replace function dbml.explain_predict(model text, workspace text default null)
returns table (engine text, used_for text[], why text, certificate jsonb)
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables, after the caller's right to the model has been checked.
as $$
declare
    lent constant record := dbml_channel.find_model(model, workspace, 'predict');
    c dbml._certificates; o dbml._certificates;
    setting text;
    one record; several record;
    own constant text[] := array['rows', 'queries'];
begin
    select s.* into c from dbml._certificates s where s.model_id = lent.model_id and s.engine = 'sql';
    select s.* into o from dbml._certificates s where s.model_id = lent.model_id and s.engine = 'onnx';
    select m.engine into setting from dbml._models m where m.model_id = lent.model_id;
    -- What predict itself would choose.
    begin
        one := dbml_channel._choose_engine(lent.model_id, model, null, 'predict', case when 'text' = any (c.kinds) then 'set' else 'row' end);
        several := dbml_channel._choose_engine(lent.model_id, model, null, 'predict', 'set');
    exception when sqlstate 'ML027' then
        one := row('python', sqlerrm); several := one;
    end;
    engine := 'sql';
    used_for := array_remove(array[case when one.chosen = 'sql' then 'rows' end, case when several.chosen = 'sql' then 'queries' end], null);
    why := case
        when setting in ('python', 'onnx') then 'the model''s engine is set to ' || setting
        when cardinality(used_for) = 2 then case setting when 'sql' then 'the model''s engine is set to sql' else 'it is certified, and the fastest' end
        when cardinality(used_for) = 1 then 'certified; not for ' || case when one.chosen = 'sql' then 'queries: ' || several.why else 'rows: ' || one.why end
        else several.why end;
    certificate := dbml_channel._certificate_of(c);
    return next;
    engine := 'onnx';
    used_for := array_remove(array[case when one.chosen = 'onnx' then 'rows' end, case when several.chosen = 'onnx' then 'queries' end], null);
    why := case
        when lent.format = 'onnx' then 'it is an ONNX file'
        when setting = 'python' then 'the model''s engine is set to python'
        when cardinality(used_for) > 0 then case setting when 'onnx' then 'the model''s engine is set to onnx' else 'it is certified, and faster than the model itself' end
        when o.status is null then case when one.chosen = 'sql' and several.chosen = 'sql' then 'it was not converted: sql serves all calls'
                                        else 'it was never converted' end
        when o.status <> 'certified' then coalesce(o.reason, o.status)
        when one.chosen = 'sql' and several.chosen = 'sql' then 'sql is faster, and proven equal'
        else coalesce(o.refused ->> 'set', o.refused ->> 'row', several.why) end;
    certificate := dbml_channel._certificate_of(o);
    return next;
    engine := 'python';
    used_for := array_remove(array[case when one.chosen = 'python' then 'rows' end, case when several.chosen = 'python' then 'queries' end], null);
    why := case when lent.format = 'onnx' then 'there is no estimator behind an ONNX file'
           when setting = 'python' then 'the model''s engine is set to python'
           when cardinality(used_for) = 0 then format('%s is faster, and proven equal', several.chosen)
           else 'it always works' end;
    certificate := null;
    return next;
end
$$;
comment on function dbml.explain_predict(text, text) is
'Tell which engine scores with a model, why not another, and what was proven: a row an engine.

used_for: rows (predict, predict_row, predict_proba of one row), queries (predict, predict_json, predict_into of a query).
Errors: ML020 no such model.
Example: SELECT engine, used_for, why, certificate ->> ''rows_compared'' FROM dbml.explain_predict(''demo-diabetes'');';

create or replace function dbml.explain_predict(model text, workspace text default null)
returns table (engine text, used_for text[], why text, certificate jsonb)
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables, after the caller's right to the model has been checked.
as $$
declare
    lent constant record := dbml_channel.find_model(model, workspace, 'predict');
    c dbml._certificates;
    setting text;
    one record; several record;
    own constant text[] := array['rows', 'queries'];
begin
    select s.* into c from dbml._certificates s where s.model_id = lent.model_id and s.engine = 'sql';
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
        when setting = 'python' then 'the model''s engine is set to python'
        when cardinality(used_for) = 2 then case setting when 'sql' then 'the model''s engine is set to sql' else 'it is certified, and the fastest' end
        when cardinality(used_for) = 1 then 'certified; not for ' || case when one.chosen = 'sql' then 'queries: ' || several.why else 'rows: ' || one.why end
        else several.why end;
    certificate := case when c.status in ('certified', 'stale') then jsonb_build_object('rows_compared', c.rows_compared,
        'rows_left_to_the_model', c.rows_left, 'thresholds', c.thresholds, 'thresholds_tried', c.thresholds_tried,
        'largest_absolute_error', c.max_absolute_error, 'largest_relative_error', c.max_relative_error, 'tolerance', c.tolerance,
        'server_version', c.server_version, 'dbml_version', c.dbml_version, 'packages', c.packages, 'certified_at', c.certified_at) end;
    return next;
    used_for := array(select o from unnest(own) o where o <> all (used_for));
    engine := 'python';
    why := case when cardinality(used_for) = 0 then 'sql is faster, and proven equal' when setting = 'python' then 'the model''s engine is set to python'
           else 'it always works' end;
    certificate := null;
    return next;
    engine := 'onnx'; used_for := '{}'; why := 'no model has an ONNX form yet';
    return next;
end
$$;
comment on function dbml.explain_predict(text, text) is
'Tell which engine scores with a model, why not another, and what was proven: a row an engine.

used_for: rows (predict, predict_row, predict_proba of one row), queries (predict, predict_json, predict_into of a query).
Errors: ML020 no such model.
Example: SELECT engine, used_for, why, certificate ->> ''rows_compared'' FROM dbml.explain_predict(''demo-diabetes'');';

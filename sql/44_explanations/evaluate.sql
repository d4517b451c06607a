create or replace function dbml.evaluate(model text, input_query text, target text, experiment text default 'evaluations', workspace text default null)
returns table (metric text, value double precision, details jsonb)
language plpgsql volatile parallel unsafe security invoker
as $$
declare
    about constant jsonb := dbml_channel.features_of(model, workspace);
begin
    if target is null then
        raise exception 'target must name a column of the query, got NULL' using errcode = 'ML009';
    end if;
    return query select e.* from dbml.run_script($script$
from dbml.engines.evaluation import evaluate
run.tag('model', model)
OutputDataSet = evaluate(run.load_model(model), InputDataSet, target, features, run)
$script$, input_query => input_query, params => about - 'environment' || jsonb_build_object('target', target),
        environment => about ->> 'environment', workspace => workspace, experiment => experiment)
        as e(metric text, value double precision, details jsonb);
end
$$;
comment on function dbml.evaluate(text, text, text, text, text) is
'Compare a model''s predictions with a column of a query that holds the right answers: a row a metric.

Of a regressor: rmse, mae, median_absolute_error, max_error, bias, r2. Of a classifier: accuracy, balanced_accuracy, precision,
recall and f1 (weighted by rows; with details {"class": ...} of one class), log_loss and roc_auc where it has probabilities,
confusion (details: actual, predicted) and calibration (the share of a class among rows of which the model says predicted).
rows and rows_left_out, whose target is NULL, come first. It is recorded as a run: the metrics, and a plot where matplotlib is
installed (dbml.artifacts). It runs as a script: you must be able to run scripts in the workspace, and to read the model.
Errors: ML020 no such model; ML009 target is no column, or holds what the model does not predict; ML021 a feature is no column.
Example: SELECT metric, round(value::numeric, 3) AS value
    FROM dbml.evaluate(''demo-diabetes'', ''SELECT * FROM demo.diabetes'', ''progression'') WHERE details IS NULL;';

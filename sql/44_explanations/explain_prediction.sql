create or replace function dbml_channel.features_of(model text, workspace text)
returns jsonb
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads the model's record, for who may read it.
as $$
declare
    lent constant record := dbml_channel.find_model(model, workspace, 'read');
    names jsonb;
begin
    select jsonb_agg(f.value -> 'name' order by f.o) into names
    from jsonb_array_elements(case jsonb_typeof(lent.signature -> 'features') when 'array' then lent.signature -> 'features' end) with ordinality f(value, o);
    return jsonb_build_object('features', names, 'model', lent.name || ':' || lent.version, 'environment', (lent.environment ->> 'name') || ':' || (lent.environment ->> 'version'));
end
$$;
comment on function dbml_channel.features_of(text, text) is 'Which version a reference means, the names of its features, and its environment.';

create or replace function dbml_channel.explain(model text, input_query text, one_row boolean, workspace text)
returns table (row_number bigint, output text, feature text, value text, contribution double precision, baseline double precision,
               prediction double precision, scale text, method text)
language plpgsql volatile parallel unsafe security invoker
as $$
declare
    about constant jsonb := dbml_channel.features_of(model, workspace);
begin
    return query select e.* from dbml.run_script($script$
from dbml.engines.explain import explain_rows
OutputDataSet = explain_rows(run.load_model(model), InputDataSet, features, one_row=one_row)
$script$, input_query => input_query, params => about - 'environment' || jsonb_build_object('one_row', one_row),
        environment => about ->> 'environment', workspace => workspace, experiment => 'explanations')
        as e(row_number bigint, output text, feature text, value text, contribution double precision, baseline double precision,
             prediction double precision, scale text, method text);
end
$$;
comment on function dbml_channel.explain(text, text, boolean, text) is 'Explain the predictions for a query''s rows, by a script.';

create or replace function dbml.explain_prediction(model text, input_query text, workspace text default null)
returns table (row_number bigint, output text, feature text, value text, contribution double precision, baseline double precision,
               prediction double precision, scale text, method text)
language sql volatile parallel unsafe security invoker
begin atomic
    select * from dbml_channel.explain(explain_prediction.model, explain_prediction.input_query, false, explain_prediction.workspace);
end;
comment on function dbml.explain_prediction(text, text, text) is
'What each column has contributed to the predictions for a query''s rows: a row a row and feature.

baseline and the contributions of a row add up to prediction, on the scale that is named: the prediction itself, its logarithm
(log), a probability, log-odds or a decision function. output is the class that is explained, the one that the model
predicts for the row. method linear: coefficient times value, after scalers and encoders, and the intercept is the baseline.
trees: exact Shapley values of path-dependent TreeSHAP, for decision trees, forests, gradient boosting, histogram gradient
boosting, XGBoost and LightGBM; the baseline is the expectation. What a pipeline made of one column counts as that column. permutation, for all other models
and for pipelines that mix columns: a row a feature, with how much predictions change on average when the column is shuffled.
It runs as a script, in your workspace: you must be able to run scripts there and to read the model.
Errors: ML020 no such model; ML021 a feature is no column; ML005 more than 2,000,000 contributions; 42501.
Example: SELECT feature, round(contribution::numeric, 2) AS contribution
    FROM dbml.explain_prediction(''demo-diabetes'', ''SELECT * FROM demo.diabetes WHERE patient = 1'') ORDER BY abs(contribution) DESC;';

create or replace function dbml.explain_prediction(model text, features anyelement, workspace text default null)
returns table (row_number bigint, output text, feature text, value text, contribution double precision, baseline double precision,
               prediction double precision, scale text, method text)
language plpgsql volatile parallel unsafe security invoker
as $$
declare
    record_ constant jsonb := to_jsonb(features);
    query text;
begin
    if jsonb_typeof(record_) is distinct from 'object' then
        raise exception 'features must be a row or a JSON object, got %', coalesce(jsonb_typeof(record_), 'NULL') using errcode = 'ML009',
            hint = 'SELECT e.* FROM my_table t, dbml.explain_prediction(''model'', t) e';
    end if;
    select 'select ' || string_agg(format(case jsonb_typeof(e.value) when 'number' then '%2$L::float8 as %1$I' when 'boolean' then '%2$L::boolean as %1$I'
                                               when 'null' then 'null::float8 as %1$I' else '%2$L::text as %1$I' end, e.key, e.value #>> '{}'), ', ')
    into query from jsonb_each(record_) e;
    return query select * from dbml_channel.explain(model, query, true, workspace);
end
$$;
comment on function dbml.explain_prediction(text, anyelement, text) is
'What each column of one row has contributed to its prediction: dbml.explain_prediction over a query, for a row, record or jsonb object.

Errors: as over a query; ML009 the model is neither linear nor of trees, and there is nothing to shuffle in one row.
Example: SELECT e.feature, e.value, round(e.contribution::numeric, 2) AS contribution
    FROM demo.diabetes d, dbml.explain_prediction(''demo-diabetes'', d) e WHERE d.patient = 1;';

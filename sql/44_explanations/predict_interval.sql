create or replace function dbml_channel.keep_calibration(model text, coverage double precision, half_width double precision, n bigint, workspace text)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table, for who may write the model.
as $$
declare
    lent constant record := dbml_channel.find_model(keep_calibration.model, keep_calibration.workspace, 'write');
begin
    if half_width is null then
        return lent.version;
    end if;
    insert into dbml._calibrations as c (model_id, coverage, half_width, n, calibrated_by)
    values (lent.model_id, keep_calibration.coverage, keep_calibration.half_width, keep_calibration.n, dbml_channel.caller())
    on conflict on constraint _calibrations_pkey do update
    set half_width = excluded.half_width, n = excluded.n, calibrated_at = excluded.calibrated_at, calibrated_by = excluded.calibrated_by;
    return lent.version;
end
$$;
comment on function dbml_channel.keep_calibration(text, double precision, double precision, bigint, text) is 'Keep how wide a model''s intervals are; without a width, only ask for the right.';

create or replace function dbml.calibrate(model text, input_query text, target text, coverage double precision default 0.9, workspace text default null)
returns table (version integer, half_width double precision, n bigint, coverage_at_least double precision, coverage_at_most double precision)
language plpgsql volatile parallel unsafe security invoker
-- Invoker: the query runs as the caller.
as $$
declare
    errors_ double precision[];
    place bigint;
    home constant text := nullif(current_setting('dbml.workspace', true), '');
begin
    if coverage is null or not (coverage > 0 and coverage < 1) then
        raise exception 'coverage must be between 0 and 1, got %', coalesce(coverage::text, 'NULL') using errcode = 'ML009', hint = 'coverage => 0.9';
    elsif target is null then
        raise exception 'target must name a column of the query, got NULL' using errcode = 'ML009';
    elsif not target = any ((dbml_channel.describe(input_query)).names) then
        raise exception 'target must be a column of the query, got %', quote_literal(target) using errcode = 'ML009',
            detail = jsonb_build_object('columns', (dbml_channel.describe(input_query)).names);
    end if;
    version := dbml_channel.keep_calibration(model, coverage, null, null, workspace);
    if workspace is not null then
        perform set_config('dbml.workspace', workspace, true);
    end if;
    begin
        execute 'select array_agg(abs((r ->> $3)::float8 - (r ->> ''prediction'')::float8) order by abs((r ->> $3)::float8 - (r ->> ''prediction'')::float8))'
                ' from dbml.predict_json($1, $2) r where r ->> $3 is not null'
        into errors_ using model, input_query, target;
    exception when invalid_text_representation then
        raise exception 'intervals are of numbers, and model "%" or the column "%" has others', model, target using errcode = 'ML009';
    end;
    n := coalesce(cardinality(errors_), 0);
    place := ceil((n + 1) * coverage);   -- split conformal: Lei, G'Sell, Rinaldo, Tibshirani, Wasserman, 2018, theorem 2
    if place > n then
        raise exception 'for coverage % at least % rows must be held out, got %', coverage, ceil(coverage / (1 - coverage)), n using errcode = 'ML009',
            detail = jsonb_build_object('coverage', coverage, 'rows', n), hint = 'more rows, or less coverage';
    end if;
    half_width := errors_[place];
    version := dbml_channel.keep_calibration(model, coverage, half_width, n, workspace);
    coverage_at_least := coverage;
    coverage_at_most := least(1, coverage + 1 / (n + 1.0)::float8);
    perform set_config('dbml.workspace', coalesce(home, ''), true);
    return next;
end
$$;
comment on function dbml.calibrate(text, text, text, double precision, text) is
'Find out how wide intervals around a regressor''s predictions must be, on rows that were held out of its training.

Split conformal: the half width is the smallest error that so many of the held-out errors do not exceed, so that the interval of a
new row of the same kind holds its target with a probability of coverage or more, and at most coverage_at_most where errors are
not tied, whatever the model is; over all rows, not within each group of them. It is kept with the version, for
dbml.predict_interval. Rows whose target is NULL are left out.
Errors: ML020 no such model; 42501 no right to write it; ML009 coverage is not between 0 and 1, too few rows, or labels.
Example: BEGIN; SELECT * FROM dbml.calibrate(''demo-diabetes'', ''SELECT * FROM demo.diabetes'', ''progression'', 0.8); ROLLBACK;';

create or replace function dbml_channel.calibration_of(model text, coverage double precision)
returns double precision
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads a private table, for who may predict with the model.
as $$
declare
    lent constant record := dbml_channel.find_model(model, null, 'predict');
    width double precision;
begin
    select c.half_width into width from dbml._calibrations c where c.model_id = lent.model_id and c.coverage = calibration_of.coverage;
    if width is null then
        raise exception 'model "%:%" is not calibrated for coverage %', lent.name, lent.version, coverage using errcode = 'ML055',
            detail = jsonb_build_object('model', model, 'coverage', coverage, 'calibrated',
                array(select c.coverage from dbml._calibrations c where c.model_id = lent.model_id order by 1)),
            hint = format('SELECT * FROM dbml.calibrate(%L, ''SELECT ...'', ''target'', %s)', model, coverage);
    end if;
    return width;
end
$$;
comment on function dbml_channel.calibration_of(text, double precision) is 'Half the width of a model''s intervals.';

create or replace function dbml.predict_interval(model text, features double precision[], coverage double precision default 0.9)
returns table (prediction double precision, lower double precision, upper double precision)
language plpgsql stable parallel restricted security invoker
as $$
declare
    width constant double precision := dbml_channel.calibration_of(model, coverage);
begin
    prediction := dbml.predict(model, features);
    lower := prediction - width;
    upper := prediction + width;
    return next;
end
$$;
comment on function dbml.predict_interval(text, double precision[], double precision) is
'Score one row, with an interval that holds the target of such rows with the probability coverage: dbml.calibrate has found its width.

NULL features give NULL.
Errors: as dbml.predict; ML055 the version is not calibrated for that coverage.
Example: BEGIN; SELECT dbml.calibrate(''demo-diabetes'', ''SELECT * FROM demo.diabetes'', ''progression'');
    SELECT d.patient, round(i.lower), round(i.upper) FROM demo.diabetes d,
        dbml.predict_interval(''demo-diabetes'', array[age, sex, bmi, bp, s1, s2, s3, s4, s5, s6]) i WHERE d.patient <= 3; ROLLBACK;';

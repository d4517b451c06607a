create or replace function dbml.log_metric(run_id uuid, name text, value double precision, step bigint default null)
returns void
language plpgsql volatile parallel unsafe security invoker
as $$
begin
    perform dbml.log_metrics(run_id, jsonb_build_array(jsonb_build_object('name', name, 'step', step, 'value',
        case when value in ('NaN', 'Infinity', '-Infinity') then to_jsonb(value::text) else to_jsonb(value) end)));
end
$$;
comment on function dbml.log_metric(uuid, text, double precision, bigint) is
'Log a value of a run; the same name again is the next value of a series.

Errors: ML009 no name or no value; ML052 no such run.
Example: SELECT dbml.log_metric(dbml.start_run(''by-hand''), ''rmse'', 0.25);';

create or replace function dbml.log_params(run_id uuid, params jsonb)
returns jsonb
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    found_run dbml._runs := dbml._find_run(run_id, 'write');
begin
    if found_run.source <> 'client' and found_run.finished_at is null then
        raise exception 'run % is of a script, which logs by itself until it ends', run_id using errcode = 'ML009',
            hint = 'mlflow.log_param(name, value) in the script';
    end if;
    select * into found_run from dbml._runs r where r.run_id = log_params.run_id for update;
    update dbml._runs r set logged_params = dbml._add_for_good(found_run.logged_params, log_params.params, 'parameter', 'params')
    where r.run_id = log_params.run_id returning r.logged_params into found_run.logged_params;
    return found_run.logged_params;
end
$$;
comment on function dbml.log_params(uuid, jsonb) is
'Log parameters of a run, beside those that it was given; returns all that it has logged. They are compared, and do not change.

Errors: ML009 another value for one that is there, no JSON object, or a script''s run that has not ended; ML052 no such run.
Example: SELECT dbml.log_params(dbml.start_run(''by-hand''), ''{"alpha": 0.5}'');';

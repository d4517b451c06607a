create or replace function dbml.finish_run(
    run_id uuid,
    status text default 'completed',
    error  text default null)
returns text
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    found_run dbml._runs := dbml._find_run(run_id, 'write');
begin
    if status is null or status not in ('completed', 'failed', 'canceled') then
        raise exception 'status must be completed, failed or canceled, got %', coalesce(quote_literal(status), 'NULL')
            using errcode = 'ML009';
    elsif found_run.source <> 'client' then
        raise exception 'run % is of a script, whose worker says how it ends', run_id using errcode = 'ML009',
            hint = format('SELECT dbml.cancel_script(%L)', run_id);
    end if;
    update dbml._runs r
    set status = finish_run.status, error = finish_run.error, finished_at = greatest(clock_timestamp(), r.started_at)
    where r.run_id = finish_run.run_id and r.finished_at is null
    returning r.status into found_run.status;
    if not found then
        select r.status into found_run.status from dbml._runs r where r.run_id = finish_run.run_id;
        if found_run.status <> finish_run.status then
            raise exception 'run % is %, and cannot become % any more', run_id, found_run.status, status using errcode = 'ML009';
        end if;
    end if;
    return found_run.status;
end
$$;
comment on function dbml.finish_run(uuid, text, text) is
'Record that a run of start_run has ended: completed, failed (with an error for people) or canceled; returns that.

Again with the same status it does nothing.
Errors: ML009 another status, a run that has ended otherwise, or a script''s; ML052 no such run.
Example: SELECT dbml.finish_run(dbml.start_run(''by-hand''), ''failed'', ''no data'');';

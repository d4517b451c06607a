create or replace function dbml.wait_for_run(run_id uuid, timeout interval default null)
returns text
language plpgsql volatile parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables, of a run that the caller may read.
as $$
declare
    until constant timestamptz := clock_timestamp() + timeout;
    pause double precision := 0.02;
    status text;
begin
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception 'who waits for a run must be READ COMMITTED to see its end, this transaction is %', upper(current_setting('transaction_isolation'))
            using errcode = 'ML009', hint = 'BEGIN ISOLATION LEVEL READ COMMITTED';
    elsif exists (select from dbml._submissions s where s.run_id = wait_for_run.run_id and s.transaction = pg_current_xact_id_if_assigned()) then
        raise exception 'a run begins when the transaction that submitted it has committed, and this is that transaction'
            using errcode = 'ML009', hint = 'COMMIT';
    end if;
    loop
        select r.status into status from dbml.runs r where r.run_id = wait_for_run.run_id;
        if status is null then
            raise exception 'there is no run %', coalesce(run_id::text, 'NULL') using errcode = 'ML052',
                detail = jsonb_build_object('run_id', run_id), hint = 'SELECT run_id, status, started_at FROM dbml.runs';
        end if;
        exit when status not in ('queued', 'running') or clock_timestamp() >= until;
        perform pg_sleep(pause);
        pause := least(0.5, pause * 1.5);
    end loop;
    return status;
end
$$;
comment on function dbml.wait_for_run(uuid, interval) is
'Wait until a run has ended, and return its status: completed, failed, canceled or interrupted.

timeout: after so long the status that it has then; NULL waits as long as it takes. statement_timeout holds anyway.
Errors: ML009 this transaction has submitted the run, or sees no end of it; ML052 no such run.
Example: SELECT dbml.wait_for_run(run_id, ''10 s'') FROM dbml.runs WHERE kind = ''submitted'' ORDER BY started_at DESC LIMIT 1;';

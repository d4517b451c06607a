create or replace function dbml_channel.take_back(run_id uuid)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables, for who submitted the run or owns its workspace.
as $$
declare
    caller constant text := dbml_channel.caller();
begin
    -- The worker that begins a run deletes this row too: who comes first has it.
    delete from dbml._submissions s using dbml._runs r
    where s.run_id = take_back.run_id and r.run_id = s.run_id
      and (r.username = caller or dbml_channel.may(r.workspace_id, 'own'));
    if not found then
        return false;
    end if;
    update dbml._runs r
    set status = 'canceled', finished_at = greatest(clock_timestamp(), r.started_at), sqlstate = '57014',
        queued_seconds = extract(epoch from greatest(clock_timestamp(), r.started_at) - r.started_at),
        error = format('the script was cancelled by role %s', caller)
    where r.run_id = take_back.run_id;
    perform pg_notify('dbml_submissions', '');
    return true;
end
$$;
comment on function dbml_channel.take_back(uuid) is 'Cancel a submitted run that no worker has begun; returns whether there was one.';

create or replace function dbml.run_log(run_id uuid, after integer default -1)
returns table (ordinal integer, logged_at timestamptz, text text)
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads a private table, of runs that the caller may read.
as $$
begin
    return query select c.ordinal, c.logged_at, c.text from dbml._log_chunks c
    where c.run_id = run_log.run_id and c.ordinal > run_log.after
      and exists (select from dbml._runs r where r.run_id = run_log.run_id and dbml_channel.may(r.workspace_id, 'read'))
    order by c.ordinal;
end
$$;
comment on function dbml.run_log(uuid, integer) is
'What a submitted run has printed, part by part, while it runs too; after: the last part that you have.

The log of any run is in dbml.runs.log when it has ended. No part where there is no such run, or none that you may see.
Example: SELECT l.text FROM dbml.runs r, dbml.run_log(r.run_id) l WHERE r.kind = ''submitted'' ORDER BY r.started_at, l.ordinal;';

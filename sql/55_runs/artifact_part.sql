create or replace function dbml.artifact_part(run_id uuid, name text, part integer, checked boolean default true)
returns bytea
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables, after the right to read has been checked.
as $$
declare
    found_run dbml._runs := dbml._find_run(run_id, 'read');
    blob bytea;
begin
    select a.digest into blob from dbml._artifacts a where (a.run_id, a.name) = (found_run.run_id, artifact_part.name);
    if blob is null then
        raise exception 'run % has no artifact "%"', run_id, name
            using errcode = 'ML052', detail = jsonb_build_object('run_id', run_id, 'name', name),
                  hint = format('SELECT name FROM dbml.artifacts WHERE run_id = %L', run_id);
    end if;
    return dbml._asked_part(blob, part, checked);
end
$$;
comment on function dbml.artifact_part(uuid, text, integer, boolean) is
'One part of an artifact, at most 1 MiB and counted from 0; NULL past its end. For artifacts of any size, in bounded memory.

dbml.artifacts tells size and digest.
checked => false leaves out the digest of the part, for who checks that of the whole, as the SDK does: on a server without OpenSSL it
is most of the work.
Errors: ML052 no such run or artifact.
Example: SELECT octet_length(dbml.artifact_part(run_id, name, 0)) FROM dbml.artifacts LIMIT 1;';

create or replace function dbml.artifact_bytes(run_id uuid, name text)
returns bytea
language sql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables, where the caller may read the run's workspace.
begin atomic
    select coalesce(string_agg(dbml._chunk_bytes(bc.chunk), ''::bytea order by bc.ordinal), '')
    from dbml._artifacts a
    join dbml._runs r on r.run_id = a.run_id and dbml_channel.may(r.workspace_id, 'read')
    join dbml._blob_chunks bc on bc.blob = a.digest
    where (a.run_id, a.name) = (artifact_bytes.run_id, artifact_bytes.name)
    having count(*) > 0;
end;
comment on function dbml.artifact_bytes(uuid, text) is
'The bytes of a file, image or table that a run kept; no row and NULL where there is none of that name.

Example: SELECT dbml.artifact_bytes(run_id, name) FROM dbml.artifacts WHERE kind = ''image'';';

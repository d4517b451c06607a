create or replace function dbml.snapshot_bytes(snapshot text, workspace text default null)
returns bytea
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables.
as $$
declare
    whole constant bytea := dbml_channel.find_snapshot(snapshot, (dbml_channel.find_workspace(workspace, 'read')).id);
begin
    return (select string_agg(dbml._chunk_bytes(bc.chunk), ''::bytea order by bc.ordinal)
            from dbml._blob_chunks bc where bc.blob = whole);
end
$$;
comment on function dbml.snapshot_bytes(text, text) is
'The bytes of a snapshot, a tar archive, checked against their digest.

Errors: ML054 no such snapshot; ML022 stored bytes do not match their digest.
Example: SELECT dbml.create_snapshot(''{"train.py": "print(1)"}'');
    SELECT octet_length(dbml.snapshot_bytes(snapshot)) FROM dbml.snapshots WHERE workspace = ''default'' LIMIT 1;';

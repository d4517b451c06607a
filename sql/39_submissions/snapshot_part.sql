create or replace function dbml.snapshot_part(snapshot text, part integer, workspace text default null)
returns bytea
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables.
as $$
begin
    return dbml._blob_part(dbml_channel.find_snapshot(snapshot, (dbml_channel.find_workspace(workspace, 'read')).id), part);
end
$$;
comment on function dbml.snapshot_part(text, integer, text) is
'One part of a snapshot''s archive, at most 1 MiB and counted from 0; NULL past its end. In bounded memory, whatever its size.

Errors: ML054 no such snapshot; ML022 stored bytes do not match their digest.
Example: SELECT dbml.create_snapshot(''{"train.py": "print(1)"}'');
    SELECT octet_length(dbml.snapshot_part(snapshot, 0)) FROM dbml.snapshots WHERE workspace = ''default'' LIMIT 1;';

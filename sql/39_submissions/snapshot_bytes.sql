create or replace function dbml.snapshot_bytes(snapshot text, workspace text default null)
returns bytea
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables.
as $$
declare
    whole constant bytea := dbml_channel.find_snapshot(snapshot, (dbml_channel.find_workspace(workspace, 'read')).id);
begin
    return (select string_agg(dbml._read_chunk(c), ''::bytea order by bc.ordinal)
            from dbml._blob_chunks bc join dbml._chunks c on c.digest = bc.chunk where bc.blob = whole);
end
$$;
comment on function dbml.snapshot_bytes(text, text) is
'The bytes of a snapshot, a tar archive, checked against their digest.

Errors: ML054 no such snapshot; ML022 stored bytes do not match their digest.
Example: SELECT octet_length(dbml.snapshot_bytes(dbml.create_snapshot(''{"train.py": "print(1)"}'')));';

create or replace function dbml_channel.find_snapshot(snapshot text, workspace bigint)
returns bytea
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads a private table.  That a snapshot is there, its name tells: it is the digest of what it holds.
as $$
begin
    if snapshot ~ '^[0-9a-f]{64}$' and exists (select from dbml._snapshots s
            where (s.workspace_id, s.digest) = (workspace, decode(snapshot, 'hex'))) then
        return decode(snapshot, 'hex');
    end if;
    raise exception 'the workspace has no snapshot %', coalesce(quote_literal(snapshot), 'NULL') using errcode = 'ML054',
        detail = jsonb_build_object('snapshot', snapshot), hint = 'SELECT workspace, snapshot, created_at FROM dbml.snapshots';
end
$$;
comment on function dbml_channel.find_snapshot(text, bigint) is 'The digest of a snapshot that a workspace has.';

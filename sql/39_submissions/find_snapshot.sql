create or replace function dbml_channel.find_snapshot(snapshot text, workspace bigint)
returns bytea
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads a private table.  Who may not read the workspace does not learn that a snapshot is there.
as $$
begin
    if snapshot ~ '^[0-9a-f]{64}$' and dbml_channel.may(workspace, 'read') and exists (select from dbml._snapshots s
            where (s.workspace_id, s.digest) = (workspace, decode(snapshot, 'hex'))) then
        return decode(snapshot, 'hex');
    end if;
    raise exception 'the workspace has no snapshot %', coalesce(quote_literal(snapshot), 'NULL') using errcode = 'ML054',
        detail = jsonb_build_object('snapshot', snapshot), hint = 'SELECT workspace, snapshot, created_at FROM dbml.snapshots';
end
$$;
comment on function dbml_channel.find_snapshot(text, bigint) is 'The digest of a snapshot that a workspace has.';

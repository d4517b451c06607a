create or replace function dbml._free_blob(blob bytea)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables; reached only from functions that have just let go of the blob.
as $$
declare
    parts bytea[];
begin
    select array_agg(distinct bc.chunk) into parts from dbml._blob_chunks bc where bc.blob = _free_blob.blob;
    begin
        delete from dbml._blobs b where b.digest = _free_blob.blob;  -- its list of chunks goes with it
    exception when foreign_key_violation then
        return false;   -- a model, an artifact, a file or a dataset holds it: whatever has a reference
    end;
    begin
        delete from dbml._chunks c
        where c.digest = any (parts) and not exists (select from dbml._blob_chunks o where o.chunk = c.digest);
    exception when foreign_key_violation then
        null;           -- another transaction took one up just now; the chunks wait for the next time
    end;
    return true;
end
$$;
comment on function dbml._free_blob(bytea) is 'Delete bytes that nothing refers to any more; returns whether they went.';

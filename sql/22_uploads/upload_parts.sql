create or replace function dbml.upload_parts(upload uuid)
returns table (ordinal integer, digest bytea)
language sql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads a private table, of an upload of the caller.
begin atomic
    select p.ordinal, p.chunk from dbml._upload_parts p
    where p.upload_id = dbml._find_upload(upload) order by p.ordinal;
end;
comment on function dbml.upload_parts(uuid) is
'The parts of an upload that have arrived, with their SHA-256: what need not be sent again where an upload was cut off.

Errors: ML053 no such upload.
Example: SELECT * FROM dbml.upload_parts(dbml.begin_upload());';

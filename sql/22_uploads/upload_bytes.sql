create or replace function dbml.upload_bytes(content bytea)
returns bytea
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables; the upload belongs to the caller.
as $$
declare
    kept bytea;
begin
    if content is null then
        raise exception 'content must be given, got NULL' using errcode = 'ML009';
    end if;
    kept := dbml._store_blob(content);
    insert into dbml._uploads (owner, digest) values (dbml_channel.caller(), kept);
    return kept;
end
$$;
comment on function dbml.upload_bytes(bytea) is
'Upload bytes that fit one value, and return their SHA-256: begin_upload, upload_part and finish_upload in one.

The bytes are there for one use, within a day.
Errors: ML009 NULL.
Example: SELECT dbml.upload_bytes(''hello'');';

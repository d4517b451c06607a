create or replace function dbml.upload_part(upload uuid, ordinal integer, part bytea, digest bytea default null)
returns bytea
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables, for an upload of the caller.
as $$
declare
    chunk bytea;
begin
    if ordinal is null or ordinal < 0 then
        raise exception 'ordinal must be 0 or more, got %', coalesce(ordinal::text, 'NULL') using errcode = 'ML009';
    elsif part is null or octet_length(part) not between 1 and 1048576 then
        raise exception 'a part must have 1 to 1048576 bytes, got %', coalesce(octet_length(part)::text, 'NULL') using errcode = 'ML009';
    end if;
    if octet_length(digest) <> 32 then
        raise exception 'digest must be a SHA-256, of 32 bytes, got %', octet_length(digest) using errcode = 'ML009';
    end if;
    perform dbml._find_upload(upload);
    chunk := case when digest is null then dbml._keep_chunk(part) else dbml._keep_claimed_chunk(part, digest) end;
    insert into dbml._upload_parts as p (upload_id, ordinal, chunk, size)
    values (upload, upload_part.ordinal, chunk, octet_length(part))
    on conflict on constraint _upload_parts_pkey do update set chunk = excluded.chunk, size = excluded.size;
    return chunk;
end
$$;
comment on function dbml.upload_part(uuid, integer, bytea, bytea) is
'Send one part of an upload; returns the part''s SHA-256.

ordinal counts from 0, in any order; a part sent again replaces the former. Every part but the last has 1048576 bytes.
digest: the part''s SHA-256, where you have computed it; the server then computes it no more, but compares the bytes with those that it
has under that digest, and whoever reads the part checks it.
Errors: ML053 no such upload; ML009 a part of another size.
Example: SELECT dbml.upload_part(dbml.begin_upload(), 0, ''hello'');';

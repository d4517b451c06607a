create or replace function dbml._store_chunk(blob bytea, ordinal integer, part bytea)
returns void
language sql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes the private tables; reached only from functions that check what is stored.
begin atomic
    insert into dbml._chunks (digest, data) values (sha256(part), part) on conflict do nothing;
    insert into dbml._blob_chunks (blob, ordinal, chunk) values (_store_chunk.blob, _store_chunk.ordinal, sha256(part));
end;
comment on function dbml._store_chunk(bytea, integer, bytea) is 'Keep one part of a blob, once however often it is stored.';

create or replace function dbml._store_blob(content bytea)
returns bytea
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above.
as $$
declare
    whole constant bytea := sha256(content);
    part_size constant integer := 1048576;
begin
    insert into dbml._blobs (digest, size) values (whole, octet_length(content)) on conflict do nothing;
    if found then
        for i in 0 .. greatest(0, (octet_length(content) - 1) / part_size) loop
            perform dbml._store_chunk(whole, i, substring(content from i * part_size + 1 for part_size));
        end loop;
    end if;
    return whole;
end
$$;
comment on function dbml._store_blob(bytea) is 'Keep bytes under their SHA-256, in chunks; the same bytes are kept once.';

create or replace function dbml._read_chunk(chunk dbml._chunks)
returns bytea
language plpgsql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if sha256(chunk.data) <> chunk.digest then
        raise exception 'stored bytes do not match their digest %', encode(chunk.digest, 'hex')
            using errcode = 'ML022', hint = 'the table dbml._chunks was damaged or altered: restore it from a backup';
    end if;
    return chunk.data;
end
$$;
comment on function dbml._read_chunk(dbml._chunks) is 'A chunk''s bytes, after its digest has been checked.';

create or replace function dbml._keep_chunk(part bytea)
returns bytea
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table; reached only from functions that check what is stored.
as $$
declare
    its_digest constant bytea := sha256(part);
begin
    loop
        insert into dbml._chunks (digest, data) values (its_digest, part) on conflict do nothing;
        exit when found;
        -- Held, so that nobody who frees bytes at this moment takes it away before it is referred to.
        perform from dbml._chunks c where c.digest = its_digest for key share;
        exit when found;
    end loop;
    return its_digest;
end
$$;
comment on function dbml._keep_chunk(bytea) is 'Keep one part, once however often it is stored; returns its digest.';

create or replace function dbml._store_chunk(blob bytea, ordinal integer, part bytea)
returns void
language sql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above.
begin atomic
    insert into dbml._blob_chunks (blob, ordinal, chunk) values (_store_chunk.blob, _store_chunk.ordinal, dbml._keep_chunk(part));
end;
comment on function dbml._store_chunk(bytea, integer, bytea) is 'Keep one part of a blob, once however often it is stored.';

create or replace function dbml._claim_blob(digest bytea, size bigint)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above.
as $$
begin
    loop
        insert into dbml._blobs (digest, size) values (_claim_blob.digest, _claim_blob.size) on conflict do nothing;
        if found then
            return true;
        end if;
        perform from dbml._blobs b where b.digest = _claim_blob.digest for key share;
        if found then
            return false;
        end if;
    end loop;
end
$$;
comment on function dbml._claim_blob(bytea, bigint) is
    'Make the row of a blob and return true, or hold the one that is there until the transaction ends and return false.';

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
    if dbml._claim_blob(whole, octet_length(content)) then
        for i in 0 .. greatest(0, (octet_length(content) - 1) / part_size) loop
            perform dbml._store_chunk(whole, i, substring(content from i * part_size + 1 for part_size));
        end loop;
    end if;
    return whole;
end
$$;
comment on function dbml._store_blob(bytea) is 'Keep bytes under their SHA-256, in chunks; the same bytes are kept once.';

create or replace function dbml._free_blob(digest bytea)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above.
as $$
-- Whatever table refers to a blob does so by a foreign key, which keeps it.
declare
    freed bytea[];
begin
    begin
        with gone as (delete from dbml._blob_chunks bc where bc.blob = _free_blob.digest returning bc.chunk)
        select array_agg(distinct g.chunk) into freed from gone g;
        delete from dbml._blobs b where b.digest = _free_blob.digest;
    exception when foreign_key_violation then
        return false;
    end;
    perform dbml._free_chunks(freed);
    return true;
end
$$;
comment on function dbml._free_blob(bytea) is 'Delete a blob and the parts that it alone has, where nothing refers to it; returns whether it went.';

create or replace function dbml._free_chunks(digests bytea[])
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above.
as $$
begin
    delete from dbml._chunks c
    where c.digest = any(digests)
      and not exists (select from dbml._blob_chunks bc where bc.chunk = c.digest)
      and not exists (select from dbml._upload_parts up where up.chunk = c.digest);
exception when foreign_key_violation then
    null;   -- one of them was stored again at this moment; they go when that goes
end
$$;
comment on function dbml._free_chunks(bytea[]) is 'Delete those parts to which no blob and no upload refers.';

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

create or replace function dbml._chunk_bytes(digest bytea)
returns bytea
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads a private table; reached only from functions that check who may read.
-- One chunk a look-up, never joined: a join may read the whole table, and with it all that is stored.
as $$
begin
    return (select dbml._read_chunk(c) from dbml._chunks c where c.digest = _chunk_bytes.digest);
end
$$;
comment on function dbml._chunk_bytes(bytea) is 'The bytes of one chunk, after its digest has been checked.';

create or replace function dbml._blob_part(blob bytea, part integer)
returns bytea
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables; reached only from functions that check who may read.
as $$
begin
    return dbml._chunk_bytes((select bc.chunk from dbml._blob_chunks bc where (bc.blob, bc.ordinal) = (_blob_part.blob, _blob_part.part)));
end
$$;
comment on function dbml._blob_part(bytea, integer) is 'One part of a blob, at most 1 MiB, counted from 0; NULL past its end.';

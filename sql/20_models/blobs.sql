create or replace function dbml._keep_claimed_chunk(part bytea, claimed bytea)
returns bytea
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table; reached only from functions that check what is stored.
as $$
declare
    there bytea;
begin
    loop
        insert into dbml._chunks (digest, data) values (claimed, part) on conflict do nothing;
        exit when found;
        -- Held, so that nobody who frees bytes at this moment takes it away before it is referred to.
        select c.data into there from dbml._chunks c where c.digest = claimed for key share;
        if found then
            exit when there = part;
            perform dbml._unmask_chunk(claimed, part);
        end if;
    end loop;
    return claimed;
end
$$;
comment on function dbml._keep_claimed_chunk(bytea, bytea) is
    'Keep one part under the digest that its sender says it has, once however often it is stored; returns it.';

create or replace function dbml._keep_chunk(part bytea)
returns bytea
language sql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: as below.
begin atomic
    select dbml._keep_claimed_chunk(part, sha256(part));
end;
comment on function dbml._keep_chunk(bytea) is 'Keep one part, once however often it is stored; returns its digest.';

create or replace function dbml._unmask_chunk(claimed bytea, part bytea)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above.
as $$
-- Two parts under one digest: one of the senders has lied.  Where it was the former, its bytes get the digest that they have, with
-- all that refers to them: so who knows a digest can neither keep others from storing what has it, nor read what they store.
declare
    held dbml._chunks;
    own bytea;
begin
    if sha256(part) <> claimed then
        raise exception 'a part must have the digest that was announced, % is that of other bytes', encode(claimed, 'hex')
            using errcode = 'ML022', hint = 'send the part without a digest, and the server computes it';
    end if;
    select * into held from dbml._chunks c where c.digest = claimed for update;
    own := sha256(held.data);
    if held.digest is null or own = claimed then
        return;   -- it has gone, or somebody has done it meanwhile
    end if;
    insert into dbml._chunks (digest, data) values (own, held.data) on conflict do nothing;
    perform from dbml._chunks c where c.digest = own for key share;
    update dbml._blob_chunks bc set chunk = own where bc.chunk = claimed;
    update dbml._upload_parts p set chunk = own where p.chunk = claimed;
    delete from dbml._chunks c where c.digest = claimed;
end
$$;
comment on function dbml._unmask_chunk(bytea, bytea) is 'Give bytes that were stored under a digest which is not theirs their own.';

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

create or replace function dbml._asked_part(blob bytea, part integer, checked boolean)
returns bytea
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above.
as $$
begin
    if coalesce(checked, true) then
        return dbml._blob_part(blob, part);
    end if;
    return (select c.data from dbml._chunks c where c.digest = (
        select bc.chunk from dbml._blob_chunks bc where (bc.blob, bc.ordinal) = (_asked_part.blob, _asked_part.part)));
end
$$;
comment on function dbml._asked_part(bytea, integer, boolean) is
    'One part of a blob; without the check of its digest where whoever reads it checks that of the whole.';

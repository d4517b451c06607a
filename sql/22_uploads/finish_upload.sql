create or replace function dbml.finish_upload(upload uuid, sha256 bytea, size bigint)
returns bytea
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables, for an upload of the caller.
as $$
declare
    part_size constant bigint := 1048576;
    checked_parts constant integer := 64;    -- beyond it the server's memory would not be bounded
    parts integer;
    misfit integer;
    received bigint;
begin
    if sha256 is null or octet_length(sha256) <> 32 then
        raise exception 'sha256 must have 32 bytes, got %', coalesce(octet_length(sha256)::text, 'NULL') using errcode = 'ML009';
    elsif size is null or size < 0 then
        raise exception 'size must be 0 or more, got %', coalesce(size::text, 'NULL') using errcode = 'ML009';
    end if;
    perform dbml._find_upload(upload);
    perform from dbml._uploads u where u.upload_id = upload for update;
    select count(*), coalesce(sum(p.size), 0),
           min(p.ordinal) filter (where p.ordinal <> p.position or p.ordinal < p.last and p.size <> part_size)
    into parts, received, misfit
    from (select p.ordinal, p.size, row_number() over (order by p.ordinal) - 1 as position, max(p.ordinal) over () as last
          from dbml._upload_parts p where p.upload_id = upload) p;
    if misfit is not null then
        raise exception 'the parts of an upload must be counted from 0 without a gap, each but the last of % bytes: part % is not so',
            part_size, misfit using errcode = 'ML009', detail = jsonb_build_object('upload', upload, 'part', misfit),
            hint = format('SELECT * FROM dbml.upload_parts(%L)', upload);
    elsif received <> size then
        raise exception 'the parts of an upload must have as many bytes as were announced, got % of %', received, size
            using errcode = 'ML009', hint = format('SELECT * FROM dbml.upload_parts(%L)', upload);
    elsif parts <= checked_parts and pg_catalog.sha256(coalesce(
            (select string_agg((select c.data from dbml._chunks c where c.digest = p.chunk), ''::bytea order by p.ordinal)
             from dbml._upload_parts p where p.upload_id = upload), '')) <> sha256 then
        raise exception 'the bytes of an upload must have the digest that was announced, got others than those of %', encode(sha256, 'hex')
            using errcode = 'ML022', detail = jsonb_build_object('upload', upload), hint = format('SELECT dbml.abandon_upload(%L)', upload);
    end if;
    if dbml._claim_blob(sha256, size) then
        if parts = 0 then
            perform dbml._store_chunk(sha256, 0, '');
        end if;
        insert into dbml._blob_chunks (blob, ordinal, chunk)
        select finish_upload.sha256, p.ordinal, p.chunk from dbml._upload_parts p where p.upload_id = upload;
    elsif parts > 0 and exists (
            (select p.ordinal, p.chunk from dbml._upload_parts p where p.upload_id = upload)
            except
            (select bc.ordinal, bc.chunk from dbml._blob_chunks bc where bc.blob = finish_upload.sha256)) then
        -- Larger than what is checked here, and one of the two was not what its sender said.
        raise exception 'other bytes are kept under the digest %', encode(sha256, 'hex') using errcode = 'ML022',
            hint = 'check the file''s digest with sha256sum; whoever stored the other bytes must delete them';
    end if;
    update dbml._uploads u set digest = finish_upload.sha256 where u.upload_id = upload;
    delete from dbml._upload_parts p where p.upload_id = upload;
    return sha256;
end
$$;
comment on function dbml.finish_upload(uuid, bytea, bigint) is
'Finish an upload: its parts become bytes with that SHA-256 and size, kept once however often they are stored.

Returns the digest. The server checks each part, the sum of sizes, and up to 64 MiB the digest of the whole; of more than
that the digest is checked by whoever reads it.
Errors: ML053 no such upload; ML009 a part is missing, or the size differs; ML022 the digest differs.
Example: SELECT dbml.finish_upload(dbml.begin_upload(), sha256(''''), 0);';

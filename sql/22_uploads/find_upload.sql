create or replace function dbml._find_upload(upload uuid)
returns uuid
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads a private table; another role's upload is as good as none.
as $$
declare
    digest bytea;
begin
    select u.digest into digest from dbml._uploads u
    where u.upload_id = upload and u.owner = dbml_channel.caller() for key share;
    if not found then
        raise exception 'upload % is not there: it was used or given up, is a day old, or another role''s', coalesce(upload::text, 'NULL')
            using errcode = 'ML053', detail = jsonb_build_object('upload', upload), hint = 'SELECT dbml.begin_upload()';
    elsif digest is not null then
        raise exception 'upload % is finished', upload using errcode = 'ML009';
    end if;
    return upload;
end
$$;
comment on function dbml._find_upload(uuid) is 'An upload of the caller that is not finished; it stays until the transaction ends.';

create or replace function dbml._use_upload(digest bytea)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.  Who names a digest must have sent its bytes: knowing a digest gives no right to read.
as $$
declare
    used uuid;
begin
    select u.upload_id into used from dbml._uploads u
    where u.digest = _use_upload.digest and u.owner = dbml_channel.caller()
    order by u.started_at limit 1 for update skip locked;
    if used is null then
        raise exception 'bytes must have been uploaded to be used, and those of digest % were not', coalesce(encode(digest, 'hex'), 'NULL')
            using errcode = 'ML053', hint = 'SELECT dbml.upload_bytes(bytes) returns their digest; each upload is for one use';
    end if;
    perform dbml._claim_blob(digest, 0);   -- holds it: the reference to be made and the upload's end are one transaction
    delete from dbml._uploads u where u.upload_id = used;
    return (select b.size from dbml._blobs b where b.digest = _use_upload.digest);
end
$$;
comment on function dbml._use_upload(bytea) is
    'Take bytes that the caller has uploaded: returns their size, and the caller of this refers to them in the same transaction.';

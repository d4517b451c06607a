create or replace function dbml._clean_uploads()
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: deletes from private tables what nobody came back for within a day.
as $$
declare
    digests bytea[];
    chunks bytea[];
    gone integer;
begin
    with old as (
        select u.upload_id from dbml._uploads u where u.started_at < now() - interval '1 day'
        order by u.started_at limit 1000 for update skip locked),
    parts as (
        select array_agg(distinct p.chunk) as chunks from dbml._upload_parts p join old using (upload_id)),
    deleted as (
        delete from dbml._uploads u using old where u.upload_id = old.upload_id returning u.digest)
    select (select p.chunks from parts p), array_agg(distinct d.digest) filter (where d.digest is not null), count(*)
    into chunks, digests, gone from deleted d;
    if gone > 0 then
        perform dbml._free_blob(d) from unnest(digests) d;
        perform dbml._free_chunks(chunks);
    end if;
    return gone;
end
$$;
comment on function dbml._clean_uploads() is 'Forget uploads that were begun a day ago or longer, and free their bytes; returns how many.';

create or replace function dbml.begin_upload()
returns uuid
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables; an upload belongs to the caller alone.
as $$
declare
    made uuid;
begin
    perform dbml._clean_uploads();
    insert into dbml._uploads (owner) values (dbml_channel.caller()) returning upload_id into made;
    return made;
end
$$;
comment on function dbml.begin_upload() is
'Begin to upload bytes of any length in parts, and return the upload''s id.

Then upload_part for each part and finish_upload, which returns the digest by which add_artifact, register_model_files
and others take the bytes. One upload is for one use; what is neither finished nor used within a day is deleted.
A value of up to 1 GB can be given to upload_bytes at once.
Example: SELECT dbml.begin_upload();';

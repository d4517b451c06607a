create or replace function dbml.abandon_upload(upload uuid)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables, for an upload of the caller.
as $$
declare
    gone dbml._uploads;
    chunks bytea[];
begin
    select array_agg(distinct p.chunk) into chunks from dbml._upload_parts p
    join dbml._uploads u using (upload_id) where u.upload_id = upload and u.owner = dbml_channel.caller();
    delete from dbml._uploads u where u.upload_id = upload and u.owner = dbml_channel.caller() returning * into gone;
    if gone.upload_id is null then
        return false;
    end if;
    perform dbml._free_chunks(chunks);
    if gone.digest is not null then
        perform dbml._free_blob(gone.digest);
    end if;
    return true;
end
$$;
comment on function dbml.abandon_upload(uuid) is
'Give up an upload and free its bytes; returns whether there was one.

Example: SELECT dbml.abandon_upload(dbml.begin_upload());';

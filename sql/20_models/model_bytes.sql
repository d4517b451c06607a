create or replace function dbml.model_bytes(model text, workspace text default null)
returns bytea
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables.
as $$
declare
    found_model record;
    content bytea;
begin
    found_model := dbml_channel.find_model(model, workspace, 'read');
    content := (select string_agg(dbml._chunk_bytes(bc.chunk), ''::bytea order by bc.ordinal)
                from dbml._blob_chunks bc where bc.blob = found_model.digest);
    if content is null or sha256(content) <> found_model.digest then
        raise exception 'the bytes of model "%" do not match their digest %', model, encode(found_model.digest, 'hex')
            using errcode = 'ML022', hint = 'the table dbml._blob_chunks was damaged or altered: restore it from a backup';
    end if;
    return content;
end
$$;
comment on function dbml.model_bytes(text, text) is
'The bytes of a registered model, checked against their digest: what run.register_model made or register_model was given.

model: ''name'' (the latest version), ''name:3'' or ''name@alias''. A model over 1 GB does not fit one value.
Errors: ML020 no such model; ML022 stored bytes do not match their digest.
Example: SELECT octet_length(dbml.model_bytes(''demo-iris:1''));';

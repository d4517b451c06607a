create or replace function dbml.model_bytes(model text, workspace text default null)
returns bytea
language sql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables.
begin atomic
    select string_agg(dbml._read_chunk(c), ''::bytea order by bc.ordinal)
    from dbml_channel.find_model(model, workspace, 'read') m
    join dbml._blob_chunks bc on bc.blob = m.digest
    join dbml._chunks c on c.digest = bc.chunk;
end;
comment on function dbml.model_bytes(text, text) is
'The bytes of a registered model, checked against their digest: what run.register_model pickled or register_model was given.

model: ''name'' (the latest version), ''name:3'' or ''name@alias''. A model over 1 GB does not fit one value.
Errors: ML020 no such model; ML022 stored bytes do not match their digest.
Example: SELECT octet_length(dbml.model_bytes(''demo-iris:1''));';

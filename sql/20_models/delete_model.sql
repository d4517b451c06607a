create or replace function dbml.delete_model(model text, workspace text default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables.
as $$
declare
    gone record;
begin
    select * into gone from dbml_channel.find_model(model, workspace, 'write');
    delete from dbml._models m where m.model_id = gone.model_id;
    if not exists (select from dbml._models m where (m.workspace_id, m.name) = (gone.workspace_id, gone.name)) then
        -- Whoever takes the name next grants for himself.
        delete from dbml._model_grants g where (g.workspace_id, g.name::text) = (gone.workspace_id, gone.name);
    end if;
    -- Bytes that no model and no artifact needs any more go with it.
    if not exists (select from dbml._models m where m.digest = gone.digest)
       and not exists (select from dbml._artifacts a where a.digest = gone.digest) then
        with freed as (
            delete from dbml._blob_chunks bc where bc.blob = gone.digest returning bc.chunk)
        delete from dbml._chunks c using freed
        where c.digest = freed.chunk
          and not exists (select from dbml._blob_chunks o where o.chunk = c.digest and o.blob <> gone.digest);
        delete from dbml._blobs b where b.digest = gone.digest;
    end if;
    return gone.version;
end
$$;
comment on function dbml.delete_model(text, text) is
'Delete one version of a model, and its bytes where nothing else holds them; returns the version that went.

model: ''name'' means the latest version. Aliases of that version go too.
The deletion belongs to the transaction: rolled back, the model is there again.
Errors: ML020 no such model.
Example: BEGIN; SELECT dbml.delete_model(''demo-iris:1''); ROLLBACK;';

create or replace function dbml.delete_model(model text, workspace text default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables.
as $$
declare
    gone record;
    its_files bytea[];
    held text;
begin
    select * into gone from dbml_channel.find_model(model, workspace, 'write');
    select string_agg(quote_literal(i.name || ':' || i.version), ', ' order by i.name, i.version) into held
    from dbml._image_models im join dbml._images i using (image_id) where im.model_id = gone.model_id;
    if held is not null then
        raise exception 'a model must be in no image to be deleted, "%:%" is in %', gone.name, gone.version, held
            using errcode = 'ML009', hint = 'SELECT dbml.delete_image(''...'') first';
    end if;
    select string_agg(quote_literal(s.name), ', ' order by s.name) into held
    from dbml._services s
    where s.workspace_id = gone.workspace_id
      and (gone.name || ':' || gone.version = any (s.models)
           or exists (select from dbml._service_candidates c join dbml._service_versions v using (service_id, generation)
                      where c.service_id = s.service_id and gone.name || ':' || gone.version = any (v.models)));
    if held is not null then
        raise exception 'a model must serve nothing to be deleted, "%:%" serves %', gone.name, gone.version, held
            using errcode = 'ML009', hint = 'SELECT dbml.delete_service(''...'') first';
    end if;
    select coalesce(array_agg(distinct f.digest), '{}') into its_files from dbml._model_files f where f.model_id = gone.model_id;
    delete from dbml._models m where m.model_id = gone.model_id;
    if not exists (select from dbml._models m where (m.workspace_id, m.name) = (gone.workspace_id, gone.name)) then
        -- Whoever takes the name next grants for himself.
        delete from dbml._model_grants g where (g.workspace_id, g.name::text) = (gone.workspace_id, gone.name);
    end if;
    -- Bytes that nothing else needs go with it.
    perform dbml._free_blob(d) from unnest(its_files || gone.digest) d;
    return gone.version;
end
$$;
comment on function dbml.delete_model(text, text) is
'Delete one version of a model, and its bytes where nothing else holds them; returns the version that went.

model: ''name'' means the latest version. Aliases of that version go too.
The deletion belongs to the transaction: rolled back, the model is there again.
Errors: ML020 no such model; ML009 an image has it.
Example: BEGIN; SELECT dbml.delete_model(''demo-iris:1''); ROLLBACK;';

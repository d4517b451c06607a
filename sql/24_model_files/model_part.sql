create or replace function dbml.model_part(model text, part integer, path text default null, workspace text default null, checked boolean default true)
returns bytea
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables, after find_model has checked the right to read.
as $$
declare
    found_model record;
    blob bytea;
begin
    found_model := dbml_channel.find_model(model, workspace);
    if path is null then
        return dbml._asked_part(found_model.digest, part, checked);
    end if;
    select f.digest into blob from dbml._model_files f where (f.model_id, f.path) = (found_model.model_id, model_part.path);
    if blob is null then
        raise exception 'model "%:%" has no file "%"', found_model.name, found_model.version, path using errcode = 'ML020',
            hint = format('SELECT path FROM dbml.model_files WHERE name = %L AND version = %s', found_model.name, found_model.version);
    end if;
    return dbml._asked_part(blob, part, checked);
end
$$;
comment on function dbml.model_part(text, integer, text, text, boolean) is
'One part of a model''s bytes or of one of its files, at most 1 MiB and counted from 0; NULL past the end.

dbml.models and dbml.model_files tell sizes and digests. For models of any size, in bounded memory.
checked => false leaves out the digest of the part, for who checks that of the whole, as the SDK does: on a server without OpenSSL it
is most of the work.
Errors: ML020 no such model or file.
Example: SELECT octet_length(dbml.model_part(''demo-iris:1'', 0));';

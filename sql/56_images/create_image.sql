create or replace function dbml.create_image(
    name         text,
    models       text[],
    files        jsonb,
    entry_script text  default 'score.py',
    environment  text  default null,
    lock         text  default null,
    digest       text  default null,
    description  text  default null,
    tags         jsonb default '{}',
    properties   jsonb default '{}',
    workspace    text  default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables, and takes bytes that the caller itself has uploaded, and models that it may read.
as $$
declare
    home record;
    served record;
    file record;
    blob bytea;
    its_models bigint[] := '{}';
    its_environment jsonb;
    whole_lock text;
    newest dbml._images;
    its_id bigint;
    former text;
begin
    if name is null or name ~ '[:@/[:cntrl:]]' or btrim(name) <> name or length(name) not between 1 and 255 then
        raise exception 'an image''s name must have 1 to 255 characters and none of : @ /, got %', coalesce(quote_literal(name), 'NULL')
            using errcode = 'ML009';
    elsif coalesce(cardinality(models), 0) = 0 then
        raise exception 'an image must have a model at least, got %', coalesce(models::text, 'NULL') using errcode = 'ML009',
            hint = 'SELECT name, version FROM dbml.models';
    elsif jsonb_typeof(files) is distinct from 'array' or jsonb_array_length(files) = 0 then
        raise exception 'files must be an array of {"path", "digest"} or {"path", "text"}, with one at least, got %',
            coalesce(left(files::text, 80), 'NULL') using errcode = 'ML009';
    elsif jsonb_typeof(coalesce(tags, '{}')) <> 'object' or jsonb_typeof(coalesce(properties, '{}')) <> 'object' then
        raise exception 'tags and properties must be JSON objects' using errcode = 'ML009';
    elsif digest !~ '^[0-9a-f]{64}$' then
        raise exception 'digest must be a SHA-256 in hex, got %', quote_literal(digest) using errcode = 'ML009';
    end if;
    home := dbml_channel.find_workspace(workspace, 'write');
    for served in select m.reference, found.* from unnest(models) with ordinality m(reference, ordinal)
                  cross join lateral dbml_channel.find_model(coalesce(m.reference, ''), home.name) found order by m.ordinal loop
        if served.model_id = any (its_models) then
            raise exception 'a model must be named once, got "%:%" twice', served.name, served.version using errcode = 'ML009';
        end if;
        its_models := its_models || served.model_id;
        its_environment := coalesce(its_environment, served.environment);
    end loop;
    -- Held until the end, so that none is deleted meanwhile.
    perform from dbml._models m where m.model_id = any (its_models) for key share;
    if environment is not null then
        its_environment := dbml_channel.find_environment(environment, home.name);
    elsif its_environment is null then
        raise exception 'environment must be given where the models have none of their own' using errcode = 'ML009',
            hint = format('SELECT dbml.create_environment(%L, ''scikit-learn'')', name);
    end if;
    select e.lock into whole_lock from dbml._environments e where e.environment_id = (its_environment ->> 'id')::bigint for key share;
    if exists (select from regexp_split_to_table(lock, '\n') l where l <> '' and l !~ '^\s*#'
               and l <> all (regexp_split_to_array(whole_lock, '\n'))) then
        raise exception 'lock must be of the lines of the environment''s lock' using errcode = 'ML009',
            hint = format('SELECT lock FROM dbml.environments WHERE name = %L AND version = %s',
                          its_environment ->> 'name', its_environment ->> 'version');
    end if;
    -- Versions count from 1 without a gap: one creation of a name at a time, to the end of the transaction.
    perform pg_advisory_xact_lock(hashtextextended('dbml image ' || home.id || ' ' || name, 0));
    select * into newest from dbml._images i where i.workspace_id = home.id and i.name = create_image.name order by i.version desc limit 1;
    if newest.digest = create_image.digest then
        return newest.version;
    end if;
    insert into dbml._images (workspace_id, name, version, entry_script, environment_id, lock, digest, description, tags, properties,
                              created_by)
    values (home.id, name, coalesce(newest.version, 0) + 1, coalesce(entry_script, ''), (its_environment ->> 'id')::bigint,
            coalesce(create_image.lock, whole_lock), create_image.digest, create_image.description, coalesce(create_image.tags, '{}'),
            coalesce(create_image.properties, '{}'), dbml_channel.caller())
    returning image_id into its_id;
    insert into dbml._image_models (image_id, ordinal, model_id)
    select its_id, m.ordinal, m.id from unnest(its_models) with ordinality m(id, ordinal);
    for file in select f.* from jsonb_to_recordset(files) f(path text, digest text, text text) order by f.path collate "C" loop
        if file.path is null or file.path = '' or file.path ~ '(^|/)[.]{0,2}(/|$)' then
            raise exception 'the path of a file must be relative, without . and .., got %', coalesce(quote_literal(file.path), 'NULL')
                using errcode = 'ML009';
        elsif file.path is not distinct from former then
            raise exception 'the path of a file must be given once, got "%" twice', file.path using errcode = 'ML009';
        elsif file.text is not null then
            blob := dbml._store_blob(convert_to(file.text, 'UTF8'));
        elsif file.digest ~ '^[0-9a-f]{64}$' then
            blob := decode(file.digest, 'hex');
            perform dbml._use_upload(blob);
        else
            raise exception 'file "%" must have a text, or as digest a SHA-256 in hex, got %', file.path, coalesce(quote_literal(file.digest), 'NULL')
                using errcode = 'ML009';
        end if;
        insert into dbml._image_files (image_id, path, digest) values (its_id, file.path, blob);
        former := file.path;
    end loop;
    if not exists (select from dbml._image_files f where (f.image_id, f.path) = (its_id, create_image.entry_script)) then
        raise exception 'the entry script % must be one of the files', coalesce(quote_literal(entry_script), 'NULL') using errcode = 'ML009';
    end if;
    return coalesce(newest.version, 0) + 1;
end
$$;
comment on function dbml.create_image(text, text[], jsonb, text, text, text, text, text, jsonb, jsonb, text) is
'Keep the next version of an image: models, the files of a score.py and a lock, which are served together; returns the version.

models: references, ''name'', ''name:3'' or ''name@alias'', each kept as the version that it means now. files: [{"path", "text"}, ...],
or {"path", "digest"} for bytes that were uploaded by upload_bytes or finish_upload; one of them is entry_script, which has
init() and run(data). environment: by default the models'' own. lock: those lines of the environment''s lock that the image takes;
by default all. digest: of all that goes in, by whoever makes images; the same as that of the newest version returns that version.
dbml export and dbml.core.image write score.py, resolve the environment and call this. A model in an image is not deleted.
Errors: ML009 what breaks a rule; ML020 no such model; ML036 no such environment; ML053 bytes that you did not upload.
Example: BEGIN; SELECT dbml.create_environment(''manual'', ''joblib'');
SELECT dbml.create_image(''manual'', array[''demo-iris''], environment => ''manual'',
    files => ''[{"path": "score.py", "text": "def init():\n    pass\n\ndef run(data):\n    return data\n"}]''); ROLLBACK;';

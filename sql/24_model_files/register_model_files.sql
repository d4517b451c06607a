create or replace function dbml.register_model_files(
    name              text,
    files             jsonb,
    format            text  default 'files',
    framework         text  default null,
    framework_version text  default null,
    signature         jsonb default null,
    description       text  default null,
    tags              jsonb default '{}',
    properties        jsonb default '{}',
    details           jsonb default '{}',
    alias             text  default null,
    run_id            uuid  default null,
    workspace         text  default null,
    environment       text  default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables, and takes bytes that the caller itself has uploaded or may read as artifacts of the run.
as $$
declare
    home record;
    found_run dbml._runs;
    file record;
    blob bytea;
    whole bytea;
    paths text[] := '{}';
    digests bytea[] := '{}';
    former text;
    listed jsonb;
    made integer;
    its_id bigint;
begin
    home := dbml_channel.find_workspace(workspace, 'use');
    if jsonb_typeof(files) is distinct from 'array' or jsonb_array_length(files) = 0 then
        raise exception 'files must be an array of {"path", "digest"} or {"path", "artifact"}, with one at least, got %', coalesce(files::text, 'NULL')
            using errcode = 'ML009';
    elsif format <> 'files' and jsonb_array_length(files) <> 1 then
        raise exception 'a model of format % must be one file, got %', format, jsonb_array_length(files) using errcode = 'ML009';
    elsif jsonb_typeof(signature) <> 'object' or jsonb_typeof(tags) <> 'object' or jsonb_typeof(properties) <> 'object'
          or jsonb_typeof(details) <> 'object' then
        raise exception 'signature, tags, properties and details must be JSON objects' using errcode = 'ML009';
    end if;
    if run_id is not null then
        found_run := dbml._find_run(run_id, 'read');
    end if;
    for file in select f.* from jsonb_to_recordset(files) f(path text, digest text, artifact text) order by f.path loop
        if file.path is null or file.path = '' or file.path ~ '(^|/)[.][.]?(/|$)|^/|//|/$' then
            raise exception 'the path of a model''s file must be relative, without . and .., got %', coalesce(quote_literal(file.path), 'NULL')
                using errcode = 'ML009';
        elsif former = file.path then
            raise exception 'the path of a model''s file must be given once, got "%" twice', file.path using errcode = 'ML009';
        elsif file.artifact is not null then
            select a.digest into blob from dbml._artifacts a where (a.run_id, a.name) = (found_run.run_id, file.artifact) for key share;
            if blob is null then
                raise exception 'run % has no artifact "%"', coalesce(run_id::text, 'NULL'), file.artifact
                    using errcode = 'ML052', detail = jsonb_build_object('run_id', run_id, 'name', file.artifact),
                          hint = format('SELECT name FROM dbml.artifacts WHERE run_id = %L', run_id);
            end if;
        else
            begin
                blob := decode(file.digest, 'hex');
            exception when invalid_parameter_value then
                raise exception 'a digest must be in hex, got %', quote_literal(file.digest) using errcode = 'ML009';
            end;
            perform dbml._use_upload(blob);
        end if;
        paths := paths || file.path;
        digests := digests || blob;
        former := file.path;
    end loop;
    select jsonb_agg(jsonb_build_object('path', f.path, 'sha256', encode(f.digest, 'hex'), 'size', b.size) order by f.position) into listed
    from unnest(paths, digests) with ordinality f(path, digest, position) join dbml._blobs b on b.digest = f.digest;
    -- A folder's bytes are the list of its files.
    whole := case when format <> 'files' then blob else dbml._store_blob(convert_to(jsonb_build_object('files', listed)::text, 'UTF8')) end;
    made := dbml._add_model(home.id, name, whole, jsonb_build_object('format', format,
        'framework', framework, 'framework_version', framework_version, 'signature', signature, 'description', description,
        'tags', tags, 'properties', properties, 'alias', alias, 'run_id', run_id,
        'environment_id', dbml_channel.find_environment(environment, home.name) ->> 'id'));
    update dbml._models m set details = coalesce(register_model_files.details, '{}')
    where (m.workspace_id, m.name, m.version) = (home.id, register_model_files.name, made)
    returning m.model_id into its_id;
    insert into dbml._model_files (model_id, path, digest)
    select its_id, f.path, f.digest from unnest(paths, digests) f(path, digest);
    return made;
end
$$;
comment on function dbml.register_model_files(text, jsonb, text, text, text, jsonb, text, jsonb, jsonb, jsonb, text, uuid, text, text) is
'Register uploaded files as the next version of a model; returns the version.

files is [{"path": "model/weights.bin", "digest": "SHA-256 in hex"}, ...], of bytes uploaded by upload_bytes or finish_upload,
or {"path", "artifact"} for what run_id keeps. format ''pickle'' is one file with a pickled estimator, ''safe'' one with a
skops file, which dbml.predict scores; ''files'', any files for programs of yours. details is for what a program wants to remember.
Errors: ML009 paths, formats or names that break a rule; ML053 bytes that you did not upload; ML052 no such artifact.
Example: SELECT dbml.register_model_files(''manual-files'',
    jsonb_build_array(jsonb_build_object(''path'', ''readme.txt'', ''digest'', encode(dbml.upload_bytes(''hello''), ''hex''))));';

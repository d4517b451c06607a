create or replace function dbml._add_model(workspace bigint, model_name text, blob bytea, about jsonb)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables; reached from register_model and from run.register_model.
as $$
begin
    perform dbml_channel._require_registering(workspace, model_name);
    perform dbml_channel._require_origin(about, blob);
    return dbml._insert_model(dbml_channel.caller(), workspace, model_name, blob, about);
end
$$;
comment on function dbml._add_model(bigint, text, bytea, jsonb) is
    'Add the next version of a model whose bytes are stored, for the caller, if it may.';

create or replace function dbml._insert_model(role text, workspace bigint, model_name text, blob bytea, about jsonb)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables; reached from functions that have asked for the role's right.
as $$
declare
    made integer;
    policy jsonb;
    made_id bigint;
begin
    if model_name is null or model_name ~ '[:@/[:cntrl:]]' or btrim(model_name) <> model_name or length(model_name) not between 1 and 255 then
        raise exception 'a model''s name must have 1 to 255 characters and none of : @ /, got %', coalesce(quote_literal(model_name), 'NULL')
            using errcode = 'ML009';
    end if;
    if not exists (select from dbml._environments e where (e.workspace_id, e.environment_id) = (workspace, (about ->> 'environment_id')::bigint))
          and about ->> 'environment_id' is not null then
        raise exception 'a model''s environment must be in the model''s workspace' using errcode = 'ML036',
            hint = 'SELECT workspace, name, version FROM dbml.environments';
    end if;
    -- Versions count from 1 without a gap: one registration of a name at a time, to the end of the transaction.
    perform pg_advisory_xact_lock(hashtextextended('dbml model ' || workspace || ' ' || model_name, 0));
    insert into dbml._models (workspace_id, name, version, digest, format, framework, framework_version, signature,
                              description, tags, properties, run_id, environment_id, created_by, engine)
    select workspace, model_name, coalesce(max(m.version), 0) + 1, blob, coalesce(about ->> 'format', 'pickle'),
           about ->> 'framework', about ->> 'framework_version',
           nullif(about -> 'signature', 'null'), about ->> 'description', coalesce(nullif(about -> 'tags', 'null'), '{}'),
           coalesce(nullif(about -> 'properties', 'null'), '{}'), (about ->> 'run_id')::uuid,
           (about ->> 'environment_id')::bigint, role, (array_agg(m.engine order by m.version desc))[1]
    from dbml._models m where m.workspace_id = workspace and m.name = model_name
    returning version, model_id into made, made_id;
    if about ->> 'alias' is not null then
        insert into dbml._model_aliases (workspace_id, name, alias, version)
        values (workspace, model_name, about ->> 'alias', made)
        on conflict (workspace_id, name, alias) do update set version = excluded.version, set_at = now();
    end if;
    select jsonb_build_object('workspace', w.name, 'formats', w.model_formats, 'types', w.model_types) into policy
    from dbml._workspaces w where w.workspace_id = workspace;
    perform dbml_channel._admit_model(model_name, blob, coalesce(about ->> 'format', 'pickle'), policy);
    perform dbml_channel._compile_quietly(made_id);
    perform dbml_channel._follow_model(workspace, model_name);
    return made;
end
$$;
create or replace function dbml_channel._require_registering(workspace bigint, model_name text)
returns void
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: called by definers only.
as $$
begin
    if not dbml_channel.may_use_model(workspace, model_name, 'write') then
        perform dbml_channel.require(workspace, 'write');
    end if;
end
$$;
comment on function dbml_channel._require_registering(bigint, text) is
    'Refuse who may write neither in the workspace nor the model of that name.';

create or replace function dbml_channel._require_origin(about jsonb, blob bytea)
returns void
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads a private table and the signing key; called by definers only.
as $$
declare
    origin constant uuid := about ->> 'run_id';
    run dbml._runs;
begin
    if origin is null
       -- The worker's word that its script registers these bytes: the row of a run is not always in the caller's snapshot.
       or about ->> 'proof' = dbml_channel._sign(format('registers %s %s', origin, encode(blob, 'hex'))) then
        return;
    end if;
    select * into run from dbml._runs r where r.run_id = origin;
    if run.username = dbml_channel.caller() then
        return;
    elsif run.run_id is null or not dbml_channel.may(run.workspace_id, 'read') then
        raise exception 'run % is not there', origin using errcode = 'ML052', detail = jsonb_build_object('run_id', origin),
            hint = 'SELECT run_id, experiment, status FROM dbml.runs';
    end if;
    perform dbml_channel.require(run.workspace_id, 'write');
end
$$;
comment on function dbml_channel._require_origin(jsonb, bytea) is
    'Refuse to name a run as a model''s origin to who neither ran it nor may write in its workspace.';

comment on function dbml._insert_model(text, bigint, text, bytea, jsonb) is 'Add the next version of a model whose bytes are stored, for a role.';

create or replace function dbml.register_model(
    name              text,
    model             bytea,
    framework         text  default null,
    framework_version text  default null,
    signature         jsonb default null,
    description       text  default null,
    tags              jsonb default '{}',
    properties        jsonb default '{}',
    alias             text  default null,
    run_id            uuid  default null,
    workspace         text  default null,
    environment       text  default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables after checking what is written.
as $$
begin
    if model is null or octet_length(model) = 0 then
        raise exception 'a model must have bytes, got %', case when model is null then 'NULL' else 'none' end
            using errcode = 'ML009', hint = 'pickle.dumps(estimator) in a script, returned AS t(model bytea), gives them';
    elsif jsonb_typeof(signature) <> 'object' or jsonb_typeof(tags) <> 'object' or jsonb_typeof(properties) <> 'object' then
        raise exception 'signature, tags and properties must be JSON objects' using errcode = 'ML009';
    end if;
    return dbml._add_model((dbml_channel.find_workspace(workspace, 'use')).id, name, dbml._store_blob(model), jsonb_build_object(
        'format', case when substring(model for 4) = '\x504b0304' then 'safe' when get_byte(model, 0) = 8 then 'onnx' else 'pickle' end, 'framework', framework, 'framework_version', framework_version, 'signature', signature, 'description', description,
        'tags', tags, 'properties', properties, 'alias', alias, 'run_id', run_id,
        'environment_id', dbml_channel.find_environment(environment, workspace) ->> 'id'));
end
$$;
comment on function dbml.register_model(text, bytea, text, text, jsonb, text, jsonb, jsonb, text, uuid, text, text) is
'Register the bytes of an estimator, pickled or as a skops file, as the next version of a model; returns the version.

The model belongs to the transaction: rolled back, it is gone. signature is {"features": [{"name": ...}, ...]}
where the estimator itself does not know its features'' names. alias moves an alias to the new version.
run_id is one of your own runs, or of a workspace in which you are contributor. environment is where it was trained, and where it will
be scored. A skops file is told by how it begins, and is never
unpickled: its format is safe. So is an ONNX file, of format onnx, which ONNX Runtime scores.
Errors: ML009 a bad name or no bytes; ML022 a zip that is no skops file, or no ONNX file; ML026 a type or a format that is not allowed; ML036 no such environment; ML050 no such workspace; ML052 no such run.
Example: SELECT dbml.register_model(''diabetes-copy'', dbml.model_bytes(''demo-diabetes''), tags => ''{"copy": true}'');';

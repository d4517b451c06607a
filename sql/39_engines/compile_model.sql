create or replace function dbml_channel._lent(
    of_model bigint, out name text, out version integer, out digest bytea, out signature jsonb, out format text, out policy jsonb,
    out environment jsonb)
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables; called by definers that have asked for the right.
as $$
begin
    select v.name, v.version, v.digest, v.signature, v.format,
           case when w.model_formats is not null or w.model_types is not null or v.format = 'safe' then   -- as find_model
               jsonb_build_object('workspace', w.name, 'formats', w.model_formats, 'types', w.model_types) end,
           case when e.environment_id is not null then
               jsonb_build_object('id', e.environment_id, 'name', e.name, 'version', e.version, 'python_version', e.python_version,
                                  'lock_sha256', e.lock_sha256) end
    into name, version, digest, signature, format, policy, environment
    from dbml._models v join dbml._workspaces w using (workspace_id)
    left join dbml._environments e on e.environment_id = v.environment_id
    where v.model_id = of_model;
    if policy is not null then
        perform dbml_channel._check_format(name, format, policy);
    end if;
end
$$;
comment on function dbml_channel._lent(bigint) is
    'What the worker is told of a version that it is to load, after the workspace''s policy has been asked.';

create or replace function dbml_channel._ask_to_make(
    of_model bigint, form text, time_limit_s double precision, out tag text, out head jsonb, out made text)
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: sends a model's bytes; called by definers that have asked for the right.
as $$
declare
    lent constant record := dbml_channel._lent(of_model);
    state text; said text;
begin
    perform dbml_channel.nest(1);   -- a script's call may be open
    begin
        for attempt in 1 .. 3 loop
            select o.tag, o.head::jsonb, o.body_ into tag, head, made from dbml_channel._open_call(jsonb_build_object('kind', 'score',
                'form', form, 'method', 'predict', 'model', lent.name, 'digest', encode(lent.digest, 'hex'),
                'environment', lent.environment, 'signature', lent.signature, 'format', lent.format, 'policy', lent.policy,
                'time_limit_s', time_limit_s)) o;
            exit when tag <> 'need';
            perform dbml_channel._send_model(lent.digest);
        end loop;
    exception when query_canceled or others then
        get stacked diagnostics state = returned_sqlstate, said = message_text;
        perform dbml_channel.abandon(state, said);
        raise;
    end;
    perform dbml_channel.nest(-1);
end
$$;
comment on function dbml_channel._ask_to_make(bigint, text, double precision) is
    'Have a scorer make another form of a model (compile, convert), or say why it cannot be made.';

create or replace function dbml_channel._compile(wanted_id bigint, time_limit_s double precision)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: makes a model's functions; called by definers that have asked for the right, of a model that is an estimator.
as $$
declare
    answer constant record := dbml_channel._ask_to_make(wanted_id, 'compile', time_limit_s);
begin
    if answer.tag = 'need_environment' then
        perform dbml_channel._keep_certificate(wanted_id, 'refused', 'its environment is not built yet', '{}');
        return;
    elsif answer.tag is distinct from 'compiled' then
        perform dbml_channel._keep_certificate(wanted_id, 'refused', 'no scorer keeps it long enough', '{}');
        return;
    elsif answer.head ? 'refused' then
        perform dbml_channel._keep_certificate(wanted_id, 'refused', answer.head ->> 'refused', answer.head);
    else
        perform dbml_channel._certify(wanted_id, answer.head, string_to_array(answer.made, E'\n'));
        perform dbml_channel._share_compiled(wanted_id);
    end if;
    if (answer.head ->> 'may_convert')::boolean and exists (
        select from dbml._certificates c where (c.model_id, c.engine) = (wanted_id, 'sql') and (c.status <> 'certified' or c.refused ? 'set')) then
        perform dbml_channel._convert(wanted_id, time_limit_s);
    end if;
end
$$;
comment on function dbml_channel._compile(bigint, double precision) is
    'Have the worker compile a model, and keep its functions with a certificate, or why there are none.';

create or replace function dbml_channel._convert(wanted_id bigint, time_limit_s double precision)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: as _compile.
as $$
declare
    former constant bytea := (select c.pair from dbml._certificates c where (c.model_id, c.engine) = (wanted_id, 'onnx'));
    answer constant record := dbml_channel._ask_to_make(wanted_id, 'convert', time_limit_s);
    about jsonb := jsonb_build_object('engine', 'onnx');
    own bytea;
begin
    if answer.tag is distinct from 'converted' then
        perform dbml_channel._keep_certificate(wanted_id, 'refused', 'no scorer keeps it long enough', about);
    elsif answer.head ? 'refused' then
        perform dbml_channel._keep_certificate(wanted_id, 'refused', answer.head ->> 'refused', answer.head || about);
    else
        select string_agg(dbml._read_chunk(c), ''::bytea order by bc.ordinal) into own
        from dbml._models m join dbml._blob_chunks bc on bc.blob = m.digest join dbml._chunks c on c.digest = bc.chunk
        where m.model_id = wanted_id;
        about := about || jsonb_build_object('pair',
            encode(dbml._store_blob(own || decode(answer.made, 'hex') || int8send(octet_length(own)::bigint)), 'hex'));
        perform dbml_channel._keep_certificate(wanted_id, 'certified', null, answer.head || about);
    end if;
    perform dbml._free_blob(former) where former is not null and former is distinct from decode(about ->> 'pair', 'hex');
end
$$;
comment on function dbml_channel._convert(bigint, double precision) is
    'Have the worker convert a model to ONNX, and keep that beside the model with its certificate, or why there is none.';

create or replace function dbml_channel._compile_quietly(wanted_id bigint)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: as _compile.  A model is registered whether or not it can be compiled, and whether or not a worker runs.
as $$
declare
    said text;
    largest constant bigint := 64 * 1024 * 1024;   -- bytes; a larger model is compiled by compile_model alone
begin
    if coalesce(nullif(current_setting('dbml.compile', true), ''), 'on') = 'off' then
        return;
    elsif (select m.format not in ('pickle', 'safe') from dbml._models m where m.model_id = wanted_id) then
        return;
    elsif (select b.size > largest from dbml._models m join dbml._blobs b using (digest) where m.model_id = wanted_id) then
        perform dbml_channel._keep_certificate(wanted_id, 'refused', 'it is larger than 64 MB: compile it by dbml.compile_model', '{}');
        return;
    end if;
    begin
        perform dbml_channel._compile(wanted_id, 20);
    exception when others then
        get stacked diagnostics said = message_text;
        perform dbml_channel._keep_certificate(wanted_id, 'refused', said, '{}');
    end;
end
$$;
comment on function dbml_channel._compile_quietly(bigint) is 'Compile a model that is being registered; what goes wrong is kept as the reason.';

create or replace function dbml_channel._share_compiled(wanted_id bigint)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: grants on the owner's functions.
as $$
declare
    name text;
    grantee text;
    others constant text[] := array(
        select g.grantee from dbml._models m join dbml._workspace_grants g using (workspace_id) where m.model_id = wanted_id
        union select g.grantee from dbml._models m join dbml._model_grants g on (g.workspace_id, g.name) = (m.workspace_id, m.name)
        where m.model_id = wanted_id
        union select 'dbml_admin');
begin
    for name in select f.value from dbml._certificates c, jsonb_each(c.functions) m, jsonb_each_text(m.value) f
                where c.model_id = wanted_id and c.engine = 'sql' loop
        -- Exactly those who may predict with the model may execute its function: whoever lost the right has it no longer.
        for grantee in select case a.grantee when 0 then 'public' else quote_ident(r.rolname) end
                       from pg_proc p cross join aclexplode(p.proacl) a left join pg_roles r on r.oid = a.grantee
                       where p.pronamespace = 'dbml_models'::regnamespace and p.proname = name and a.grantee <> p.proowner loop
            execute format('revoke all on function dbml_models.%I from %s', name, grantee);
        end loop;
        foreach grantee in array others loop
            if grantee = 'public' then
                execute format('grant usage on schema dbml_models to public; grant execute on function dbml_models.%I to public', name);
            elsif to_regrole(quote_ident(grantee)) is not null then
                execute format('grant usage on schema dbml_models to %I; grant execute on function dbml_models.%I to %I', grantee, name, grantee);
            end if;
        end loop;
    end loop;
end
$$;
comment on function dbml_channel._share_compiled(bigint) is 'Let those execute a model''s functions who may predict with it, and nobody else.';

create or replace function dbml_channel._share_again()
returns trigger
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: as _share_compiled.
as $$
declare
    changed constant record := coalesce(new, old);
    of_name constant text := to_jsonb(changed) ->> 'name';   -- a grant on a workspace has none
begin
    perform dbml_channel._share_compiled(m.model_id)
    from dbml._models m join dbml._certificates c using (model_id)
    where m.workspace_id = changed.workspace_id and (of_name is null or m.name = of_name) and c.functions <> '{}';
    return null;
end
$$;
comment on function dbml_channel._share_again() is 'Carry a change of grants to the functions of the models concerned.';
create or replace trigger functions_follow after insert or update or delete on dbml._workspace_grants
    for each row execute function dbml_channel._share_again();
create or replace trigger functions_follow after insert or update or delete on dbml._model_grants
    for each row execute function dbml_channel._share_again();

create or replace function dbml.compile_model(
    model text, time_limit interval default '1 minute', workspace text default null, engine text default null)
returns text
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: as _compile, after the caller's right to the model has been checked.
as $$
declare
    lent constant record := dbml_channel.find_model(model, workspace, 'write');
    wanted constant text := coalesce(compile_model.engine, 'sql');
    limit_s constant double precision := extract(epoch from time_limit)::double precision;
    c record;
begin
    if wanted not in ('sql', 'onnx') then
        raise exception 'engine must be ''sql'' or ''onnx'', got %', quote_literal(wanted) using errcode = 'ML009';
    elsif time_limit is null or time_limit <= interval '0' then
        raise exception 'time_limit > 0 must hold, got %', coalesce(time_limit::text, 'NULL') using errcode = 'ML009';
    elsif lent.format not in ('pickle', 'safe') then
        raise exception 'model "%" is not compiled: it is of format %', model, lent.format using errcode = 'ML027',
            detail = jsonb_build_object('model', model, 'engine', wanted, 'why', 'it is of format ' || lent.format),
            hint = format('SELECT * FROM dbml.explain_predict(%L)', model);
    elsif lent.environment is not null then
        perform dbml_channel._build_environment((lent.environment ->> 'id')::bigint);
    end if;
    if wanted = 'onnx' then
        perform dbml_channel._convert(lent.model_id, limit_s);
    else
        perform dbml_channel._compile(lent.model_id, limit_s);
    end if;
    for c in select s.* from dbml._certificates s where s.model_id = lent.model_id and s.engine in (wanted, coalesce(compile_model.engine, 'onnx'))
             order by s.engine = wanted desc loop
        if c.status = 'certified' then
            perform dbml_channel._recompiled(lent.model_id);
            return c.engine;
        end if;
    end loop;
    select s.* into c from dbml._certificates s where (s.model_id, s.engine) = (lent.model_id, wanted);
    raise exception 'model "%" is not compiled: %', model, c.reason using errcode = 'ML027',
        detail = jsonb_build_object('model', model, 'engine', wanted, 'why', c.reason),
        hint = format('SELECT * FROM dbml.explain_predict(%L)', model);
end
$$;
comment on function dbml.compile_model(text, interval, text, text) is
'Compile a model, prove it equal to the model itself, and keep the certificate; returns the engine that it gained.

engine: sql, or onnx, which needs the packages onnx and onnxruntime where the model is scored; by default sql, and onnx too
where sql does not serve all calls. Registration does so by itself (unless SET dbml.compile = ''off''); call this where no
worker ran then, or after an upgrade has made the certificate stale. What is made belongs to the transaction, and goes with the version.
Errors: ML020 no such model; 42501 no right to write it; ML009 no such engine; ML027 the step that cannot be compiled, or the
row that differed; ML005 it takes longer than time_limit.
Example: SELECT dbml.compile_model(''demo-diabetes'');';

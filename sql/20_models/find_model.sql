create or replace function dbml_channel.may_use_model(workspace_id bigint, name text, wanted text)
returns boolean
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
-- Definer: reads the private table of grants, for the session's caller alone.
as $$
begin
    if wanted is null or wanted not in ('predict', 'read', 'write') then
        raise exception 'a right on a model must be predict, read or write, got %', coalesce(quote_literal(wanted), 'NULL')
            using errcode = 'ML009';
    end if;
    -- First alone: most have the right by the workspace, and this is on the way of every prediction of one row.
    if dbml_channel.may(workspace_id, wanted) then
        return true;
    end if;
    return exists (select from dbml._model_grants g
                   where g.workspace_id = may_use_model.workspace_id and g.name::text = may_use_model.name
                     and (wanted = 'predict' or g.privilege = wanted or g.privilege = 'write')
                     and dbml_channel.is_grantee(dbml_channel.caller(), g.grantee));
end
$$;
comment on function dbml_channel.may_use_model(bigint, text, text) is
    'Whether the caller may predict with, read or write a model: by the workspace, or by a grant on the model.';

create or replace function dbml_channel.readable_models()
returns table (workspace_id bigint, name text)
language sql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads the private table of grants, for the session's caller alone.
rows 10
begin atomic
    select g.workspace_id, g.name::text from dbml._model_grants g
    where g.privilege in ('read', 'write') and dbml_channel.is_grantee(dbml_channel.caller(), g.grantee);
end;
comment on function dbml_channel.readable_models() is
    'The models that the caller may read by grants of their own, beside those of the workspaces that it may read.';

create or replace function dbml_channel.find_model(
    model text, workspace text default null, wanted text default 'read',
    out model_id bigint, out workspace_id bigint, out name text, out version integer,
    out digest bytea, out size bigint, out signature jsonb, out environment jsonb, out format text, out policy jsonb)
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables, in the caller's snapshot, so that a model that the caller's own
-- transaction has registered is found and one that it rolled back is not.
as $$
declare
    home constant text := coalesce(nullif(workspace, ''), nullif(current_setting('dbml.workspace', true), ''), 'default');
    plain constant text := split_part(split_part(model, '@', 1), ':', 1);
    mark constant text := substr(model, length(plain) + 2);
    its_environment bigint;
    formats text[]; types text[];
begin
    if model like '%@%' then
        select m.model_id, m.workspace_id, m.name, m.version, m.digest, b.size, m.signature, m.environment_id, m.format,
               w.model_formats, w.model_types
        into model_id, workspace_id, name, version, digest, size, signature, its_environment, format, formats, types
        from dbml._workspaces w
        join dbml._model_aliases a on a.workspace_id = w.workspace_id and a.name = plain and a.alias = mark
        join dbml._models m on m.workspace_id = a.workspace_id and m.name = a.name and m.version = a.version
        join dbml._blobs b on b.digest = m.digest
        where w.name = home;
    else
        if mark <> '' and mark !~ '^[0-9]{1,9}$' then
            raise exception 'a model''s version must be a number, got "%"', mark
                using errcode = 'ML009', hint = 'models are ''name'', ''name:3'' or ''name@alias''';
        end if;
        select m.model_id, m.workspace_id, m.name, m.version, m.digest, b.size, m.signature, m.environment_id, m.format,
               w.model_formats, w.model_types
        into model_id, workspace_id, name, version, digest, size, signature, its_environment, format, formats, types
        from dbml._workspaces w
        join dbml._models m on m.workspace_id = w.workspace_id and m.name = plain
            and (mark = '' or m.version = nullif(mark, '')::integer)
        join dbml._blobs b on b.digest = m.digest
        where w.name = home
        order by m.version desc limit 1;
    end if;
    if model_id is null or not dbml_channel.may_use_model(workspace_id, name, wanted) then
        perform dbml_channel.find_workspace(home, 'use');
        if model_id is not null and dbml_channel.may_use_model(workspace_id, name, 'predict') then
            raise insufficient_privilege using
                message = format('role %s may not %s model "%s": it needs %s', dbml_channel.caller(), wanted, name, wanted),
                detail = jsonb_build_object('model', name, 'workspace', home, 'role', dbml_channel.caller(), 'needs', wanted),
                hint = format('SELECT dbml.grant_model(%L, %L, %L)', name, dbml_channel.caller(), wanted);
        end if;
        raise exception 'model "%" is not in workspace "%"', model, home
            using errcode = 'ML020', detail = jsonb_build_object('model', model, 'workspace', home),
                  hint = 'SELECT name, version, aliases FROM dbml.models';
    elsif its_environment is not null then
        select jsonb_build_object('id', e.environment_id, 'name', e.name, 'version', e.version,
                                  'python_version', e.python_version, 'lock_sha256', e.lock_sha256)
        into environment from dbml._environments e where e.environment_id = its_environment;
    end if;
    if formats is not null or types is not null or format = 'safe' then
        policy := jsonb_build_object('workspace', home, 'formats', formats, 'types', types);
    end if;
end
$$;
comment on function dbml_channel.find_model(text, text, text) is
    'The version that a reference (name, name:3, name@alias) means now, in the caller''s snapshot, if the caller has the right wanted.';

create or replace function dbml_channel._send_model(digest bytea)
returns void
language plpgsql volatile parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads the bytes, which the worker needs and the caller may not see; called by definers that have asked for the right.
as $$
declare
    part bytea;
begin
    if exists (select from dbml._models m where m.digest = _send_model.digest and m.format = 'files') then
        raise exception 'a model must be one pickled estimator to be loaded, and this one is a list of files' using errcode = 'ML022',
            hint = 'SELECT name, version, path FROM dbml.model_files shows them; dbml.model_part reads them';
    end if;
    perform dbml_channel._announce_model(digest);
    for part in
        select dbml._chunk_bytes(bc.chunk) from dbml._blob_chunks bc where bc.blob = _send_model.digest order by bc.ordinal
    loop
        perform dbml_channel.exchange(E'part {}\n' || encode(part, 'hex'));
    end loop;
    if not found then
        raise exception 'there are no bytes of the model with the digest %', encode(digest, 'hex')
            using errcode = 'ML022', hint = 'the table dbml._blob_chunks was damaged or altered: restore it from a backup';
    end if;
end
$$;
comment on function dbml_channel._send_model(bytea) is 'Send a model''s bytes to the worker, part by part.';

create or replace function dbml_channel._announce_model(digest bytea)
returns void
language plpgsql volatile parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: signs; called by definers only.  A session can send parts of its own: the worker takes as many bytes as this says.
as $$
declare
    header constant text := jsonb_build_object(
        'kind', 'upload', 'protocol', (select w.protocol from dbml._worker w), 'digest', encode(digest, 'hex'),
        'size', coalesce((select b.size from dbml._blobs b where b.digest = _announce_model.digest), 0),
        'nonce', gen_random_uuid(), 'expires', extract(epoch from clock_timestamp()) + 60);
begin
    perform dbml_channel.exchange('expect ' || dbml_channel._sign(header) || ' ' || header);
end
$$;
comment on function dbml_channel._announce_model(bytea) is 'Tell the worker, signed, that the bytes of a model follow, and how many.';

create or replace function dbml_channel.receive_model(head jsonb, workspace bigint)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables; the model belongs to the caller's transaction.
as $$
declare
    whole constant bytea := decode(head ->> 'digest', 'hex');
    fresh boolean;
    part record;
    content bytea;
    position integer := 0;
    total bigint := 0;
begin
    perform dbml_channel._require_registering(workspace, head ->> 'name');
    -- The head is the caller's word.  Bytes that are there already are another's, perhaps: who has not got them gets them
    -- by no digest.  And what is new must be what its digest says, or who brings the real bytes would find these.
    fresh := dbml._claim_blob(whole, (head ->> 'size')::bigint);
    loop
        select e.tag, e.body into part from dbml_channel.exchange('fetch {}') e;
        exit when part.tag <> 'part';
        content := decode(part.body, 'hex');
        if fresh then
            perform dbml._store_chunk(whole, position, content);
        elsif not exists (select from dbml._blob_chunks bc
                          where (bc.blob, bc.ordinal, bc.chunk) = (whole, position, sha256(content))) then
            exit;
        end if;
        position := position + 1;
        total := total + octet_length(content);
    end loop;
    if part.tag = 'part' or total <> (select b.size from dbml._blobs b where b.digest = whole)
       -- One value of it; the worker has looked at the larger ones.
       or fresh and total <= 268435456 and whole <> (
            select sha256(string_agg(c.data, ''::bytea order by bc.ordinal))
            from dbml._blob_chunks bc join dbml._chunks c on c.digest = bc.chunk where bc.blob = whole) then
        raise exception 'the bytes of model "%" do not match their digest %', head ->> 'name', encode(whole, 'hex')
            using errcode = 'ML022', hint = 'register them again';
    end if;
    return dbml._add_model(workspace, head ->> 'name', whole, head);
end
$$;
comment on function dbml_channel.receive_model(jsonb, bigint) is
    'Take a model that a script registers from the worker, and register it in the caller''s transaction.';

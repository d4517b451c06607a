create or replace function dbml.register_dataset(
    name               text,
    kind               text,
    definition         jsonb,
    schema             jsonb   default null,
    files              text[]  default '{}',
    files_of           text    default null,
    description        text    default null,
    tags               jsonb   default '{}',
    create_new_version boolean default false,
    workspace          text    default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables after checking what is written.
as $$
declare
    home record;
    held jsonb;
    missing text;
    keeper bigint;
begin
    perform dbml_channel._check_dataset(name, kind, definition, tags);
    if jsonb_typeof(nullif(schema, 'null')) <> 'array' then
        raise exception 'schema must be a JSON array of columns, got %', jsonb_typeof(schema)
            using errcode = 'ML009', hint = '[{"name": "age", "type": "bigint"}]';
    end if;
    home := dbml_channel.find_workspace(workspace, 'write');
    if files_of is not null then
        keeper := (dbml_channel.find_dataset(files_of, home.name)).dataset_id;
    end if;
    select string_agg(f.path, ', ' order by f.path) filter (where s.path is null),
           coalesce(jsonb_object_agg(f.path, encode(s.digest, 'hex')) filter (where s.path is not null), '{}')
    into missing, held
    from (select distinct u.path from unnest(register_dataset.files) u(path)) f
    left join lateral (
        select n.path, n.digest from dbml._files n where keeper is null and n.workspace_id = home.id and n.path = f.path collate "C"
        union all
        select k.path, k.digest from dbml._dataset_files k where k.dataset_id = keeper and k.path = f.path collate "C") s on true;
    if missing is not null then
        raise exception 'the datastore has no file %', left(missing, 200)
            using errcode = 'ML073', hint = format('SELECT path FROM dbml.files WHERE workspace = %L', home.name);
    end if;
    return (select i.version from dbml._insert_dataset(dbml_channel.caller(), home.id, home.name, name, kind, definition, nullif(schema, 'null'),
        held, description, tags, create_new_version) i);
end
$$;
comment on function dbml.register_dataset(text, text, jsonb, jsonb, text[], text, text, jsonb, boolean, text) is
'Register a dataset by name, so that runs and people mean the same rows by it; returns the version.

kind is table, with the definition {"table": "sales.orders"}; query, with {"query": "SELECT ..."}; tabular or file, with
{"paths": [...]}, as the Python side writes it. files names what it uses of the default datastore: the version keeps the bytes
that these have now, or that the dataset files_of keeps of them, whatever is written there later. A table or query has the rows that it has when it is read, as the reader.
The same definition again returns the version that is there; another one is refused without create_new_version.
Errors: ML009 a bad name, kind or definition; ML071 the name has another definition; ML073 no such file; ML070 no such
dataset files_of; ML050 no such workspace.
Example: SELECT dbml.register_dataset(''iris'', ''table'', ''{"table": "demo.iris"}'', tags => ''{"flowers": true}'');';

create or replace function dbml_channel._check_dataset(name text, kind text, definition jsonb, tags jsonb)
returns void
language plpgsql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if name is null or name ~ '[:@/[:cntrl:]]' or btrim(name) <> name or length(name) not between 1 and 255 then
        raise exception 'a dataset''s name must have 1 to 255 characters and none of : @ /, got %', coalesce(quote_literal(name), 'NULL')
            using errcode = 'ML009';
    elsif kind is null or kind not in ('table', 'query', 'tabular', 'file') then
        raise exception 'kind must be table, query, tabular or file, got %', coalesce(quote_literal(kind), 'NULL') using errcode = 'ML009';
    elsif jsonb_typeof(definition) is distinct from 'object' or jsonb_typeof(coalesce(tags, '{}')) <> 'object' then
        raise exception 'definition and tags must be JSON objects, got % and %', coalesce(jsonb_typeof(definition), 'NULL'), jsonb_typeof(tags)
            using errcode = 'ML009';
    elsif kind in ('table', 'query') and coalesce(btrim(definition ->> kind), '') = '' then
        raise exception 'the definition of a % must hold it, got %', kind, definition
            using errcode = 'ML009', hint = case kind when 'table' then '{"table": "sales.orders"}' else '{"query": "SELECT ..."}' end;
    elsif kind in ('tabular', 'file') and jsonb_typeof(definition -> 'paths') is distinct from 'array' then
        raise exception 'the definition of files must list their paths, got %', definition
            using errcode = 'ML009', hint = '{"format": "delimited", "paths": [{"datastore": "workspaceblobstore", "path": "a.csv"}]}';
    end if;
end
$$;
comment on function dbml_channel._check_dataset(text, text, jsonb, jsonb) is 'Check what a dataset is registered with.';

create or replace function dbml._insert_dataset(
    caller text, home bigint, home_name text, name text, kind text, definition jsonb, schema jsonb, held jsonb, description text,
    tags jsonb, create_new_version boolean, out version integer, out dataset_id bigint)
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables; reached only from functions that check who registers what.
as $$
#variable_conflict use_variable
declare
    newest dbml._datasets;
begin
    -- Versions count from 1 without a gap: one registration of a name at a time, to the end of the transaction.
    perform pg_advisory_xact_lock(hashtextextended('dbml dataset ' || home || ' ' || name, 0));
    select * into newest from dbml._datasets d
    where d.workspace_id = home and d.name = _insert_dataset.name order by d.version desc limit 1;
    if newest.dataset_id is not null then
        if newest.kind = kind and newest.definition = definition
           and held = (select coalesce(jsonb_object_agg(f.path, encode(f.digest, 'hex')), '{}')
                       from dbml._dataset_files f where f.dataset_id = newest.dataset_id) then
            version := newest.version;
            dataset_id := newest.dataset_id;
            return;
        elsif not coalesce(create_new_version, false) then
            raise exception 'dataset "%" is in workspace "%" with another definition', name, home_name
                using errcode = 'ML071', detail = jsonb_build_object('dataset', name, 'workspace', home_name, 'version', newest.version),
                      hint = 'create_new_version => true registers it as the next version';
        end if;
    end if;
    insert into dbml._datasets (workspace_id, name, version, kind, definition, schema, description, tags, created_by)
    values (home, name, coalesce(newest.version, 0) + 1, kind, definition, schema, description,
            coalesce(tags, '{}'), caller)
    returning _datasets.dataset_id into dataset_id;
    insert into dbml._dataset_files (dataset_id, workspace_id, path, digest)
    select dataset_id, home, e.key, decode(e.value, 'hex') from jsonb_each_text(held) e;
    version := coalesce(newest.version, 0) + 1;
end
$$;
comment on function dbml._insert_dataset(text, bigint, text, text, text, jsonb, jsonb, jsonb, text, jsonb, boolean) is
    'Register the next version of a dataset, or find the one that is the same; held: digests in hex by path.';

create or replace function dbml.register_datastore(
    name        text,
    kind        text,
    url         text,
    options     jsonb   default '{}',
    credentials jsonb   default '{}',
    description text    default null,
    tags        jsonb   default '{}',
    overwrite   boolean default false,
    workspace   text    default null)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table after checking what is written.
as $$
declare
    home record;
    bad text;
    made bigint;
begin
    if name is null or name ~ '[:@/[:cntrl:]]' or btrim(name) <> name or length(name) not between 1 and 255 then
        raise exception 'a datastore''s name must have 1 to 255 characters and none of : @ /, got %', coalesce(quote_literal(name), 'NULL')
            using errcode = 'ML009';
    elsif name = 'workspaceblobstore' then
        raise exception 'workspaceblobstore is the database itself, and not registered' using errcode = 'ML009';
    elsif kind is null or kind not in ('local', 's3', 'azure_blob', 'gcs') then
        raise exception 'kind must be local, s3, azure_blob or gcs, got %', coalesce(quote_literal(kind), 'NULL') using errcode = 'ML009';
    elsif coalesce(url, '') = '' then
        raise exception 'url must say where the files are, got %', coalesce(quote_literal(url), 'NULL')
            using errcode = 'ML009', hint = 's3://bucket/folder, az://container/folder, gs://bucket/folder or /a/folder';
    elsif jsonb_typeof(coalesce(options, '{}')) <> 'object' or jsonb_typeof(coalesce(credentials, '{}')) <> 'object'
          or jsonb_typeof(coalesce(tags, '{}')) <> 'object' then
        raise exception 'options, credentials and tags must be JSON objects' using errcode = 'ML009';
    end if;
    -- Secrets stay outside: what is given is never shown back, not even in the error.
    if url ~ '^[a-z0-9+.-]+://[^/]*@' or url ~ '[?&]' then
        raise exception 'a datastore''s url must hold no credentials: no user, no password, no query' using errcode = 'ML009',
            hint = 'credentials => ''{"key": {"env": "MY_KEY"}}'' names the variable that holds it';
    end if;
    select string_agg(distinct e.key[1], ', ') into bad from regexp_matches(options::text, '"([^"]*)"\s*:', 'g') e(key)
    where e.key[1] ~* '(key|secret|token|password|credential|sas|connection_string)';
    if bad is not null then
        raise exception 'a datastore''s options must hold no credentials, got %', bad using errcode = 'ML009',
            hint = 'credentials => ''{"key": {"env": "MY_KEY"}}'' names the variable that holds it';
    end if;
    select string_agg(e.key, ', ' order by e.key) into bad from jsonb_each(coalesce(credentials, '{}')) e
    where not coalesce(case when jsonb_typeof(e.value) = 'object' then
        (select count(*) = 1 and bool_and(r.key = 'env' and r.value #>> '{}' ~ '^[A-Za-z_][A-Za-z0-9_]*$'
                                          or r.key = 'file' and r.value #>> '{}' ~ '^[/~]')
         from jsonb_each(e.value) r where jsonb_typeof(r.value) = 'string') end, false);
    if bad is not null then
        raise exception 'a credential must be a reference to a variable or a file, never the secret itself: %', bad
            using errcode = 'ML009', hint = 'credentials => ''{"key": {"env": "MY_KEY"}, "secret": {"file": "/run/secrets/s3"}}''';
    end if;
    home := dbml_channel.find_workspace(workspace, 'write');
    insert into dbml._datastores as d (workspace_id, name, kind, url, options, credentials, description, tags, created_by)
    values (home.id, name, kind, url, coalesce(options, '{}'), coalesce(credentials, '{}'), description, coalesce(tags, '{}'),
            dbml_channel.caller())
    on conflict on constraint _datastores_workspace_id_name_key do update
    set kind = excluded.kind, url = excluded.url, options = excluded.options, credentials = excluded.credentials,
        description = excluded.description, tags = excluded.tags, created_at = now(), created_by = excluded.created_by
    where coalesce(register_datastore.overwrite, false)
    returning datastore_id into made;
    if made is null then
        raise exception 'datastore "%" is in workspace "%"', name, home.name using errcode = 'ML009',
            hint = 'overwrite => true takes its place';
    end if;
    return made;
end
$$;
comment on function dbml.register_datastore(text, text, text, jsonb, jsonb, text, jsonb, boolean, text) is
'Register a folder or bucket elsewhere as a datastore of the workspace; returns its id.

The database keeps where it is and never opens it: Python does, through fsspec. url is s3://bucket/folder,
az://container/folder, gs://bucket/folder or a folder''s path; options are those of the file system. credentials name where
each secret is found, a variable {"env": "NAME"} or a file {"file": "/path"}, on the machine that opens it.
Errors: ML009 a secret given as such, a bad name or kind, or the name is taken (unless overwrite); ML050 no such workspace.
Example: SELECT dbml.register_datastore(''lake'', ''s3'', ''s3://sales-lake/raw'',
    credentials => ''{"key": {"env": "LAKE_KEY"}, "secret": {"file": "/run/secrets/lake"}}'', overwrite => true);';

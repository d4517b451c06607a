create or replace function dbml.add_artifact(
    run_id       uuid,
    name         text,
    digest       bytea,
    kind         text    default 'file',
    content_type text    default 'application/octet-stream',
    replace      boolean default false)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables, and takes bytes that the caller itself has uploaded.
as $$
declare
    found_run dbml._runs := dbml._find_run(run_id, 'write');
    size bigint;
    former bytea;
begin
    if name is null or name = '' or kind is null or kind not in ('file', 'image', 'table') or content_type is null then
        raise exception 'an artifact must have a name, a content type and a kind of file, image or table, got %, % and %',
            coalesce(quote_literal(name), 'NULL'), coalesce(quote_literal(content_type), 'NULL'), coalesce(quote_literal(kind), 'NULL')
            using errcode = 'ML009';
    end if;
    size := dbml._use_upload(digest);
    select a.digest into former from dbml._artifacts a
    where (a.run_id, a.name) = (found_run.run_id, add_artifact.name) for update;
    if found and not coalesce(replace, false) then
        raise exception 'run % has an artifact "%"', run_id, name using errcode = 'ML009',
            hint = 'choose another name, or give replace => true';
    end if;
    insert into dbml._artifacts (run_id, name, kind, content_type, digest)
    values (found_run.run_id, add_artifact.name, add_artifact.kind, add_artifact.content_type, add_artifact.digest)
    on conflict on constraint _artifacts_pkey do update set kind = excluded.kind, content_type = excluded.content_type,
        digest = excluded.digest, created_at = now();
    if former <> add_artifact.digest then
        perform dbml._free_blob(former);
    end if;
    return size;
end
$$;
comment on function dbml.add_artifact(uuid, text, bytea, text, text, boolean) is
'Keep uploaded bytes with a run, under a name that may hold slashes; returns their size.

digest is what upload_bytes or finish_upload returned; the upload is used up. replace takes the place of one of that name.
Errors: ML053 bytes that you did not upload; ML009 a name that is taken; ML052 no such run.
Example: SELECT dbml.add_artifact(dbml.start_run(''by-hand''), ''notes/first.txt'', dbml.upload_bytes(''hello''));';

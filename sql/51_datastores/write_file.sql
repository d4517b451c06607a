create or replace function dbml._put_file(workspace bigint, path text, blob bytea)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables; reached only from functions that check who writes, and whose bytes they are.
as $$
declare
    former bytea;
begin
    select f.digest into former from dbml._files f
    where f.workspace_id = workspace and f.path = _put_file.path collate "C" for update;
    insert into dbml._files (workspace_id, path, digest, created_by)
    values (workspace, _put_file.path, blob, dbml_channel.caller())
    on conflict on constraint _files_pkey do update
    set digest = excluded.digest, created_at = now(), created_by = excluded.created_by;
    if former <> blob then
        perform dbml._free_blob(former);
    end if;
end
$$;
comment on function dbml._put_file(bigint, text, bytea) is 'Let a path of the default datastore mean these bytes, and free the former.';

create or replace function dbml.write_file(
    path      text,
    content   bytea,
    overwrite boolean default true,
    workspace text    default null)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables after checking what is written.
as $$
declare
    home record;
    plain constant text := dbml_channel._plain_path(path);
begin
    if content is null then
        raise exception 'content must be given, got NULL' using errcode = 'ML009';
    end if;
    home := dbml_channel.find_workspace(workspace, 'write');
    if not coalesce(overwrite, true)
       and exists (select from dbml._files f where f.workspace_id = home.id and f.path = plain collate "C") then
        return false;
    end if;
    perform dbml._put_file(home.id, plain, dbml._store_blob(content));
    return true;
end
$$;
comment on function dbml.write_file(text, bytea, boolean, text) is
'Write a file into the workspace''s default datastore, which is the database; returns whether it was written.

With overwrite => false a file that is there is kept, and false returned. Equal bytes are kept once. A file over 1 GB, or
one that is not to be held in memory whole, comes in parts: dbml.begin_upload, then dbml.write_upload.
Errors: ML009 a path with .. or an empty part, or NULL; ML050 no such workspace.
Example: SELECT dbml.write_file(''notes/hello.txt'', ''hello'');';

create or replace function dbml.write_upload(
    path      text,
    digest    bytea,
    overwrite boolean default true,
    workspace text    default null)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables, with bytes that the caller has uploaded.
as $$
declare
    home record;
    plain constant text := dbml_channel._plain_path(path);
begin
    home := dbml_channel.find_workspace(workspace, 'write');
    perform dbml._use_upload(digest);
    if not coalesce(overwrite, true)
       and exists (select from dbml._files f where f.workspace_id = home.id and f.path = plain collate "C") then
        perform dbml._free_blob(digest);
        return false;
    end if;
    perform dbml._put_file(home.id, plain, digest);
    return true;
end
$$;
comment on function dbml.write_upload(text, bytea, boolean, text) is
'Write bytes that were uploaded in parts as a file of the workspace''s default datastore; returns whether it was written.

digest is what dbml.finish_upload or dbml.upload_bytes returned. With overwrite => false a file that is there is kept.
Errors: ML053 no such upload of yours; ML009 a bad path; ML050 no such workspace.
Example: SELECT dbml.write_upload(''notes/parts.txt'', dbml.upload_bytes(''hello''));';

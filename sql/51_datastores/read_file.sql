create or replace function dbml._find_file(path text, workspace text, dataset text)
returns bytea
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables, in a workspace that the caller may read.
as $$
declare
    plain constant text := dbml_channel._plain_path(path);
    home record;
    held record;
    found_ bytea;
    where_ text;
    listing text;
begin
    if dataset is null then
        home := dbml_channel.find_workspace(workspace, 'read');
        select f.digest into found_ from dbml._files f where f.workspace_id = home.id and f.path = plain collate "C";
        where_ := format('the datastore of workspace "%s"', home.name);
        listing := format('SELECT path FROM dbml.files WHERE workspace = %L', home.name);
    else
        held := dbml_channel.find_dataset(dataset, workspace);
        select f.digest into found_ from dbml._dataset_files f where f.dataset_id = held.dataset_id and f.path = plain collate "C";
        where_ := format('dataset "%s:%s"', held.name, held.version);
        listing := format('SELECT path FROM dbml.dataset_files WHERE dataset_id = %s', held.dataset_id);
    end if;
    if found_ is null then
        raise exception '% has no file %', where_, plain
            using errcode = 'ML073', detail = jsonb_build_object('path', plain, 'dataset', dataset), hint = listing;
    end if;
    return found_;
end
$$;
comment on function dbml._find_file(text, text, text) is 'The digest of a file: as it is now, or as a version of a dataset keeps it.';

create or replace function dbml.read_file(path text, workspace text default null, dataset text default null)
returns bytea
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables.
as $$
declare
    its_digest constant bytea := dbml._find_file(path, workspace, dataset);
begin
    return (select coalesce(string_agg(dbml._chunk_bytes(bc.chunk), ''::bytea order by bc.ordinal), '')
            from dbml._blob_chunks bc where bc.blob = its_digest);
end
$$;
comment on function dbml.read_file(text, text, text) is
'The bytes of a file in the workspace''s default datastore, checked against their digest.

dataset, ''name'' or ''name:3'': the bytes that this version keeps, whatever was written there since. A file over 1 GB does
not fit one value: dbml.read_file_part.
Errors: ML073 no such file; ML070 no such dataset; ML022 stored bytes do not match their digest.
Example: BEGIN; SELECT dbml.write_file(''a.txt'', ''hello''); SELECT convert_from(dbml.read_file(''a.txt''), ''UTF8''); ROLLBACK;';

create or replace function dbml.image_part(image text, path text, part integer, workspace text default null)
returns bytea
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables, after _find_image has checked the right to read.
as $$
declare
    found_image constant dbml._images := dbml._find_image(image, workspace);
    blob bytea;
begin
    select f.digest into blob from dbml._image_files f where (f.image_id, f.path) = (found_image.image_id, image_part.path);
    if blob is null then
        raise exception 'image "%:%" has no file %', found_image.name, found_image.version, coalesce('"' || path || '"', 'NULL')
            using errcode = 'ML056', hint = format('SELECT path FROM dbml.image_files WHERE name = %L AND version = %s',
                                                   found_image.name, found_image.version);
    end if;
    return dbml._blob_part(blob, part);
end
$$;
comment on function dbml.image_part(text, text, integer, text) is
'One part of a file beside an image''s score.py, at most 1 MiB and counted from 0; NULL past its end.

The models'' files: dbml.model_part. dbml.image_files tells sizes and digests.
Errors: ML056 no such image, or it has no such file.
Example: BEGIN; SELECT dbml.create_environment(''manual'', ''joblib'');
SELECT dbml.create_image(''parts'', array[''demo-iris''], ''[{"path": "score.py", "text": "pass"}]'', environment => ''manual'');
SELECT convert_from(dbml.image_part(''parts'', ''score.py'', 0), ''UTF8''); ROLLBACK;';

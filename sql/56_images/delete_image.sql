create or replace function dbml.delete_image(image text, workspace text default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables.
as $$
declare
    gone constant dbml._images := dbml._find_image(image, workspace, 'write');
    its_files bytea[];
begin
    select coalesce(array_agg(distinct f.digest), '{}') into its_files from dbml._image_files f where f.image_id = gone.image_id;
    delete from dbml._images i where i.image_id = gone.image_id;
    perform dbml._free_blob(d) from unnest(its_files) d;
    return gone.version;
end
$$;
comment on function dbml.delete_image(text, text) is
'Delete one version of an image, and its files where nothing else holds them; returns the version that went.

image: ''name'' means the newest version. Its models and its environment stay; what was exported or built of it does too.
Errors: ML056 no such image.
Example: BEGIN; SELECT dbml.create_environment(''gone'', ''joblib'');
SELECT dbml.create_image(''gone'', array[''demo-iris''], ''[{"path": "score.py", "text": "pass"}]'', environment => ''gone'');
SELECT dbml.delete_image(''gone''); ROLLBACK;';

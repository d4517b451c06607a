create or replace view dbml.image_files as
select w.name as workspace, i.name, i.version, f.path, encode(f.digest, 'hex') as digest, b.size as size_bytes, i.created_at
from dbml._image_files f join dbml._images i using (image_id) join dbml._workspaces w using (workspace_id)
     join dbml._blobs b on b.digest = f.digest
where i.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.image_files is 'The files of images'' score.py. The bytes: dbml.image_part(image, path, part).';

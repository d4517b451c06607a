create or replace function dbml._find_image(image text, workspace text default null, wanted text default 'read')
returns dbml._images
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads a private table, after the workspace has been asked for the right.
as $$
declare
    home constant record := dbml_channel.find_workspace(workspace, wanted);
    plain constant text := split_part(image, ':', 1);
    mark constant text := substr(image, length(plain) + 2);
    found_image dbml._images;
begin
    if mark <> '' and mark !~ '^[0-9]{1,9}$' or image like '%:' then
        raise exception 'an image''s version must be a number, got "%"', mark
            using errcode = 'ML009', hint = 'images are ''name'' or ''name:3''';
    end if;
    select i.* into found_image from dbml._images i
    where i.workspace_id = home.id and i.name = plain and (mark = '' or i.version = nullif(mark, '')::integer)
    order by i.version desc limit 1;
    if found_image.image_id is null then
        raise exception 'image % is not in workspace "%"', coalesce('"' || image || '"', 'NULL'), home.name
            using errcode = 'ML056', detail = jsonb_build_object('image', image, 'workspace', home.name),
                  hint = 'SELECT workspace, name, version FROM dbml.images';
    end if;
    return found_image;
end
$$;
comment on function dbml._find_image(text, text, text) is
    'The version that a reference (name, name:3) means now, if the caller has the right wanted on its workspace.';

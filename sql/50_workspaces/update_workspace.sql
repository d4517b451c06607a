create or replace function dbml.update_workspace(
    name        text,
    description text   default null,
    tags        jsonb  default '{}',
    remove      text[] default '{}')
returns jsonb
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    home record;
    its_tags jsonb;
begin
    home := dbml_channel.find_workspace(name, 'own');
    if jsonb_typeof(tags) is distinct from 'object' or remove is null then
        raise exception 'tags must be a JSON object and remove an array, got % and %', coalesce(tags::text, 'NULL'), remove
            using errcode = 'ML009';
    end if;
    update dbml._workspaces w
    set description = coalesce(update_workspace.description, w.description),
        tags = (w.tags - update_workspace.remove) || update_workspace.tags
    where w.workspace_id = home.id returning w.tags into its_tags;
    return its_tags;
end
$$;
comment on function dbml.update_workspace(text, text, jsonb, text[]) is
'Describe a workspace, set tags and remove those named; returns its tags.

Errors: ML050 no such workspace; ML009 tags that are no JSON object.
Example: SELECT dbml.update_workspace(''default'', tags => ''{"team": "churn"}'');';

create or replace function dbml.update_experiment(
    name        text,
    description text   default null,
    tags        jsonb  default '{}',
    remove      text[] default '{}',
    workspace   text   default null)
returns jsonb
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    home record;
    its_tags jsonb;
begin
    home := dbml_channel.find_workspace(workspace, 'write');
    if jsonb_typeof(tags) is distinct from 'object' or remove is null then
        raise exception 'tags must be a JSON object and remove an array, got % and %', coalesce(tags::text, 'NULL'), remove
            using errcode = 'ML009';
    end if;
    update dbml._experiments e
    set description = coalesce(update_experiment.description, e.description),
        tags = (e.tags - update_experiment.remove) || update_experiment.tags
    where e.workspace_id = home.id and e.name = update_experiment.name returning e.tags into its_tags;
    if not found then
        raise exception 'experiment % is not in workspace "%"', coalesce(quote_literal(name), 'NULL'), home.name
            using errcode = 'ML055', hint = 'SELECT name FROM dbml.experiments';
    end if;
    return its_tags;
end
$$;
comment on function dbml.update_experiment(text, text, jsonb, text[], text) is
'Describe an experiment, set tags and remove those named; returns its tags.

Errors: ML050 no such workspace; ML055 no such experiment; ML009 tags that are no JSON object.
Example: BEGIN; SELECT dbml.create_experiment(''tried''); SELECT dbml.update_experiment(''tried'', tags => ''{"team": "crm"}''); ROLLBACK;';

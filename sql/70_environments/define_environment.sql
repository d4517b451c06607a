create or replace function dbml_channel.define_environment(environment text, definition jsonb, workspace text default null)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    found_environment constant jsonb := dbml_channel.find_environment(environment, (dbml_channel.find_workspace(workspace, 'write')).name);
begin
    update dbml._environments e set definition = define_environment.definition
    where e.environment_id = (found_environment ->> 'id')::bigint;
end
$$;
comment on function dbml_channel.define_environment(text, jsonb, text) is
    'Keep with an environment''s version what a client''s object says beyond its packages: variables, image, sections.';

create or replace function dbml.create_experiment(
    name        text,
    description text  default null,
    tags        jsonb default '{}',
    workspace   text  default null)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    home record;
    found_id bigint;
begin
    home := dbml_channel.find_workspace(workspace, 'write');
    insert into dbml._experiments (workspace_id, name, description, tags, created_by)
    values (home.id, create_experiment.name, create_experiment.description, coalesce(create_experiment.tags, '{}'), dbml_channel.caller())
    on conflict do nothing returning experiment_id into found_id;
    return coalesce(found_id, (select e.experiment_id from dbml._experiments e
                               where e.workspace_id = home.id and e.name = create_experiment.name));
exception when check_violation or not_null_violation then
    raise exception 'an experiment''s name must have 1 to 255 characters and none of : @ /, and its tags be a JSON object, got % and %',
        coalesce(quote_literal(name), 'NULL'), tags using errcode = 'ML009';
end
$$;
comment on function dbml.create_experiment(text, text, jsonb, text) is
'Make an experiment, a name under which runs are grouped; returns its id, also where it is there already.

start_run and the argument experiment of run_script make one of themselves.
Errors: ML009 a name that is not plain; ML050 no such workspace.
Example: SELECT dbml.create_experiment(''by-hand'', ''tried by hand'');';

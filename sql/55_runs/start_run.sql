create or replace function dbml.start_run(
    experiment    text    default null,
    name          text    default null,
    params        jsonb   default '{}',
    tags          jsonb   default '{}',
    properties    jsonb   default '{}',
    parent_run_id uuid    default null,
    lasting       boolean default false,
    workspace     text    default null)
returns uuid
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables.
as $$
declare
    home record;
    made uuid := gen_random_uuid();
begin
    home := dbml_channel.find_workspace(workspace, 'write');
    if jsonb_typeof(coalesce(params, '{}')) <> 'object' or jsonb_typeof(coalesce(tags, '{}')) <> 'object'
       or jsonb_typeof(coalesce(properties, '{}')) <> 'object' then
        raise exception 'params, tags and properties must be JSON objects, got %, % and %', params, tags, properties
            using errcode = 'ML009';
    elsif parent_run_id is not null and (dbml._find_run(parent_run_id, 'write')).workspace_id <> home.id then
        raise exception 'a run must be in the workspace of its parent, which is not "%"', home.name using errcode = 'ML009';
    end if;
    if experiment is not null then
        perform dbml.create_experiment(experiment, workspace => home.name);
    end if;
    insert into dbml._runs (run_id, workspace_id, workspace, experiment, parent_run_id, username, session_user_, database,
        application, client_address, backend_pid, params, inputs, started_at, tags, properties, name, source, session_key)
    values (made, home.id, home.name, start_run.experiment, start_run.parent_run_id, dbml_channel.caller(), session_user,
        current_database(), current_setting('application_name'), inet_client_addr(), pg_backend_pid(),
        coalesce(start_run.params, '{}'), '[]', clock_timestamp(), coalesce(start_run.tags, '{}'),
        coalesce(start_run.properties, '{}'), start_run.name, 'client',
        case when not coalesce(lasting, false) then dbml_channel.hold_session() end);
    return made;
end
$$;
comment on function dbml.start_run(text, text, jsonb, jsonb, jsonb, uuid, boolean, text) is
'Record that a run begins which lives in your own program, not in the worker; returns its id.

Then log_metric, log_metrics, tag_run and add_artifact, and finish_run at the end. The run is alive as long as this session:
where that ends before finish_run, dbml.runs shows it as interrupted. lasting: it waits for finish_run however long, for a
run that several sessions share. Behind a pooler that deals out transactions the session is the pooler''s, not yours.
Errors: ML009 arguments that are no JSON objects; ML050 no such workspace; ML052 no such parent.
Example: SELECT dbml.start_run(''by-hand'', params => ''{"alpha": 0.5}'');';

create or replace function dbml.delete_experiment(name text, workspace text default null)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: deletes from a private table.
as $$
declare
    home record;
    gone bigint;
begin
    home := dbml_channel.find_workspace(workspace, 'write');
    if exists (select from dbml._runs r where r.workspace_id = home.id and r.experiment = delete_experiment.name) then
        raise exception 'an experiment must have no runs to be deleted, "%" has', name using errcode = 'ML009',
            hint = format('SELECT dbml.delete_run(run_id) FROM dbml.runs WHERE workspace = %L AND experiment = %L AND parent_run_id IS NULL', home.name, name);
    end if;
    delete from dbml._experiments e where e.workspace_id = home.id and e.name = delete_experiment.name
    returning e.experiment_id into gone;
    if not found then
        raise exception 'experiment % is not in workspace "%"', coalesce(quote_literal(name), 'NULL'), home.name
            using errcode = 'ML055', hint = 'SELECT name FROM dbml.experiments';
    end if;
    return gone;
end
$$;
comment on function dbml.delete_experiment(text, text) is
'Delete an experiment that has no runs; returns the id it had.

Its runs go one by one, by dbml.delete_run.
Errors: ML050 no such workspace; ML055 no such experiment; ML009 it has runs.
Example: BEGIN; SELECT dbml.create_experiment(''tried''); SELECT dbml.delete_experiment(''tried''); ROLLBACK;';

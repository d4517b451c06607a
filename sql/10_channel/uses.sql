-- What a right is used by.  A group role and a grant on a workspace, a model or a script give functions and views by it;
-- each function asks for itself what its caller may do with what, so one too many gives nothing away.

create or replace function dbml_channel._routines_for(use text)
returns setof regprocedure
language sql stable parallel safe security invoker
set search_path = pg_catalog, pg_temp
begin atomic
    -- predict: score.  read: see what is there, and its bytes.  stored: run a stored script.  write: change what is there,
    -- but for running scripts and making workspaces, which are run, for dbml_scripter: that is all there is.
    select p.oid::regprocedure from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where p.proname !~ '^_' and n.nspname in ('dbml', 'dbml_channel')
      and p.proname <> 'find_model'   -- definers call it: what it tells of a model, who may only predict need not know
      and (
        _routines_for.use = 'run'
        or n.nspname = 'dbml_channel' and (_routines_for.use = 'stored' or p.proname not in ('receive_model', 'run_call', 'keep_script'))
        or n.nspname = 'dbml' and case _routines_for.use
            when 'predict' then p.proname ~ '^predict|^explain_predict$|_predictions$'
            when 'read' then p.proname ~ '^predict|_predictions$' or p.proname in (
                'explain_predict', 'export_sql', 'export_onnx',
                'model_bytes', 'model_part', 'inspect_model', 'artifact_bytes', 'artifact_part', 'run_output',
                'run_log', 'wait_for_run', 'snapshot_bytes', 'snapshot_part', 'lineage',
                'image_part', 'read_file', 'read_file_part', 'dataset_query', 'profile', 'data_drift')
            when 'stored' then p.proname in ('run_stored', 'run_stored_json')
            when 'write' then p.proname !~ '^(run_script|run_plot|run_stored|execute_script|submit_run|replay|create_workspace)|_pool$|^rotate_keys$' end);
end;
comment on function dbml_channel._routines_for(text) is
    'The functions that are used to predict, to read, to write, to run stored scripts (stored) or any (run).';

create or replace function dbml_channel._views()
returns setof regclass
language sql stable parallel safe security invoker
set search_path = pg_catalog, pg_temp
begin atomic
    select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'dbml' and c.relkind = 'v' and c.relname !~ '^_';
end;
comment on function dbml_channel._views() is 'The public views: each shows its reader what is in the reader''s workspaces.';

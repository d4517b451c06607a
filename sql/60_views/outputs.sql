create or replace view dbml.outputs as
select o.run_id, r.workspace, r.experiment, o.name, o.columns, o.rows, o.created_at
from dbml._outputs o join dbml._runs r using (run_id)
where r.workspace_id = any (array(select dbml_channel.workspaces('read')));
comment on view dbml.outputs is 'Results that scripts kept beside OutputDataSet. The rows: dbml.run_output(run_id, name).';
comment on column dbml.outputs.columns is 'Names and types: [{"name": "x", "type": "bigint"}].';

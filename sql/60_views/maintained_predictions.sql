create or replace view dbml.maintained_predictions as
select w.name as workspace, k.model, m.name as model_name, m.version, coalesce(s.oid::regclass::text, k.source_name) as source,
       coalesce(t.oid::regclass::text, k.target_name) as target, dbml_channel.maintained_rows(k.maintained_id) as rows,
       coalesce(k.statements ->> 'function' is not null, false) as compiled, k.problem, k.maintainer::text as maintained_by, k.created_at, k.refreshed_at
from dbml._maintained k join dbml._models m using (model_id) join dbml._workspaces w on w.workspace_id = k.workspace_id
     left join pg_class s on s.oid = k.source left join pg_class t on t.oid = k.target
where k.workspace_id = any (array(select dbml_channel.workspaces('read')))
   or pg_has_role((select dbml_channel.caller()), k.maintainer, 'usage');
comment on view dbml.maintained_predictions is 'Predictions that are kept true, a row a target: of which table, by which version of which model. dbml.maintain_predictions makes one.';
comment on column dbml.maintained_predictions.model is 'As it was asked for: name@alias follows the alias, name the latest version that is compiled.';
comment on column dbml.maintained_predictions.version is 'The version of the model that every row is of.';
comment on column dbml.maintained_predictions.rows is 'How many rows there are, counted now.';
comment on column dbml.maintained_predictions.compiled is 'Whether PostgreSQL scores them; else the worker does, row by row.';
comment on column dbml.maintained_predictions.problem is 'Why a later version of the model has not been taken.';
comment on column dbml.maintained_predictions.refreshed_at is 'When all of it was scored last; what is written since is scored as it is written.';

create or replace function dbml.set_model_policy(workspace text, formats text[] default null, allowed_types text[] default null)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table, for owners of the workspace.
as $$
declare
    home constant bigint := (dbml_channel.find_workspace(workspace, 'own')).id;
    odd text;
begin
    select t into odd from unnest(allowed_types) t
    where t is null or t !~ '^[[:alpha:]_][[:alnum:]_]*(\.[[:alpha:]_][[:alnum:]_]*)*\.(\*|[[:alpha:]_][[:alnum:]_]*)$' or length(t) > 1000
    limit 1;
    if found then
        raise exception 'an allowed type must be package.module.Class or package.*, got %', coalesce(quote_literal(odd), 'NULL')
            using errcode = 'ML009', hint = 'SELECT module, name, verdict FROM dbml.inspect_model(''demo-iris'')';
    elsif cardinality(allowed_types) > 1000 then
        raise exception 'a policy can list 1000 types at most, got %', cardinality(allowed_types) using errcode = 'ML009',
            hint = 'package.* allows whatever a package defines';
    elsif formats = '{}' or exists (select from unnest(formats) f where f is null or f not in ('pickle', 'safe', 'onnx', 'rds')) then
        raise exception 'formats must be of pickle, safe, onnx and rds, got %', formats using errcode = 'ML009';
    end if;
    update dbml._workspaces w set model_formats = formats, model_types = allowed_types
    where w.workspace_id = home;
    -- What a safe file holds is asked at every load, and SQL loads nothing: it was compiled under the policy of that time.
    update dbml._certificates c set status = 'stale', reason = 'the workspace''s policy has been set since: compile it again'
    from dbml._models m where m.model_id = c.model_id and m.workspace_id = home and m.format = 'safe' and c.status = 'certified';
end
$$;
comment on function dbml.set_model_policy(text, text[], text[]) is
'Say which models a workspace takes; registration and loading refuse the others, those that were registered before too.

formats: of pickle, safe (a skops file), onnx and rds (R''s); NULL is all. allowed_types: what a model may hold beside what is
harmless by itself (plain values, numpy''s arrays, scikit-learn''s own estimators): full names, package.module.Class, or
package.* for what a package defines; NULL lets a pickle import anything, and a safe file nothing more. It is found from
the bytes, without loading them. Both NULL: no policy. Safe files are scored by Python until
dbml.compile_model has compiled them again. The workspace''s owners and administrators may set it.
Errors: ML009 a format or a name that is none; ML050 no such workspace; 42501 for who does not own it.
Example: BEGIN; SELECT dbml.set_model_policy(''default'', formats => ''{safe,pickle}'', allowed_types => ''{xgboost.*}''); ROLLBACK;';

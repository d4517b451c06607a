create or replace function dbml.create_compute(
    name        text,
    kind        text  default 'AmlCompute',
    settings    jsonb default '{}',
    description text  default null,
    tags        jsonb default '{}',
    workspace   text  default null)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    home record;
begin
    home := dbml_channel.find_workspace(workspace, 'write');
    insert into dbml._computes (workspace_id, name, kind, settings, description, tags, created_by)
    values (home.id, create_compute.name, create_compute.kind, coalesce(create_compute.settings, '{}'), create_compute.description,
            coalesce(create_compute.tags, '{}'), dbml_channel.caller())
    on conflict do nothing;
    return found;
exception when check_violation or not_null_violation then
    raise exception 'a compute''s name must have 1 to 255 characters and none of : @ /, and settings and tags be JSON objects, got %, % and %',
        coalesce(quote_literal(name), 'NULL'), settings, tags using errcode = 'ML009';
end
$$;
comment on function dbml.create_compute(text, text, jsonb, text, jsonb, text) is
'Give the worker a name under which programs written for another service find a compute target; returns whether it is new.

Scripts that name it run on the worker, whatever kind and settings say; where a resource pool has the same name, in that.
Errors: ML009 a name that is not plain; ML050 no such workspace.
Example: SELECT dbml.create_compute(''cpu-cluster'', settings => ''{"vm_size": "STANDARD_D2_V2", "max_nodes": 4}'');';

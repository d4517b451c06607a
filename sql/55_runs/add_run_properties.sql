create or replace function dbml.add_run_properties(run_id uuid, properties jsonb)
returns jsonb
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    found_run dbml._runs := dbml._find_run(run_id, 'write');
begin
    select * into found_run from dbml._runs r where r.run_id = add_run_properties.run_id for update;
    update dbml._runs r set properties = dbml._add_for_good(found_run.properties, add_run_properties.properties, 'property', 'properties')
    where r.run_id = add_run_properties.run_id returning r.properties into found_run.properties;
    return found_run.properties;
end
$$;
comment on function dbml.add_run_properties(uuid, jsonb) is
'Give a run properties, which are for good: another value for one that is there is an error. Returns all of them.

Errors: ML009 another value, or no JSON object; ML052 no such run.
Example: SELECT dbml.add_run_properties(dbml.start_run(''by-hand''), ''{"author": "me"}'');';

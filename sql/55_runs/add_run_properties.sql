create or replace function dbml.add_run_properties(run_id uuid, properties jsonb)
returns jsonb
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    found_run dbml._runs := dbml._find_run(run_id, 'write');
    given record;
begin
    if jsonb_typeof(properties) is distinct from 'object' then
        raise exception 'properties must be a JSON object, got %', coalesce(properties::text, 'NULL') using errcode = 'ML009';
    end if;
    select * into found_run from dbml._runs r where r.run_id = add_run_properties.run_id for update;
    for given in select * from jsonb_each(properties) loop
        if found_run.properties ? given.key and found_run.properties -> given.key <> given.value then
            raise exception 'a property of a run must stay what it is, "%" is % and cannot become %', given.key,
                found_run.properties -> given.key, given.value using errcode = 'ML009', hint = 'a tag can change: dbml.tag_run';
        end if;
    end loop;
    update dbml._runs r set properties = r.properties || add_run_properties.properties
    where r.run_id = add_run_properties.run_id returning r.properties into found_run.properties;
    return found_run.properties;
end
$$;
comment on function dbml.add_run_properties(uuid, jsonb) is
'Give a run properties, which are for good: another value for one that is there is an error. Returns all of them.

Errors: ML009 another value, or no JSON object; ML052 no such run.
Example: SELECT dbml.add_run_properties(dbml.start_run(''by-hand''), ''{"author": "me"}'');';

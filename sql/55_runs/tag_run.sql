create or replace function dbml.tag_run(run_id uuid, tags jsonb default '{}', remove text[] default '{}')
returns jsonb
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    found_run dbml._runs := dbml._find_run(run_id, 'write');
begin
    if jsonb_typeof(tags) is distinct from 'object' or remove is null then
        raise exception 'tags must be a JSON object and remove an array, got % and %', coalesce(tags::text, 'NULL'), remove
            using errcode = 'ML009';
    elsif found_run.source <> 'client' and found_run.finished_at is null then
        raise exception 'run % is of a script, which sets its tags when it ends', run_id using errcode = 'ML009',
            hint = 'run.tag(name, value) in the script';
    end if;
    update dbml._runs r set tags = (r.tags - tag_run.remove) || tag_run.tags where r.run_id = tag_run.run_id
    returning r.tags into found_run.tags;
    return found_run.tags;
end
$$;
comment on function dbml.tag_run(uuid, jsonb, text[]) is
'Set tags of a run, and remove those named; returns what there is then.

Errors: ML009 tags that are no JSON object, or a script''s run that has not ended; ML052 no such run.
Example: SELECT dbml.tag_run(dbml.start_run(''by-hand''), ''{"data": "2026-10"}'');';

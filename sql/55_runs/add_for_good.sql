create or replace function dbml._add_for_good(known jsonb, given jsonb, one text, many text)
returns jsonb
language plpgsql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    added record;
begin
    if jsonb_typeof(given) is distinct from 'object' then
        raise exception '% must be a JSON object, got %', many, coalesce(given::text, 'NULL') using errcode = 'ML009';
    end if;
    for added in select * from jsonb_each(given) loop
        if known ? added.key and known -> added.key <> added.value then
            raise exception 'a % of a run must stay what it is, "%" is % and cannot become %', one, added.key, known -> added.key, added.value
                using errcode = 'ML009', hint = 'a tag can change: dbml.tag_run';
        end if;
    end loop;
    return known || given;
end
$$;
comment on function dbml._add_for_good(jsonb, jsonb, text, text) is
    'What a run has by name, with more of it: another value for one that is there is refused. one, many: what that is, in words.';

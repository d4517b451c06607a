create or replace function dbml_channel._plain_path(path text)
returns text
language plpgsql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
-- A path in a datastore: a/b.csv.  A leading ./ or / means nothing, and there is no way up.
declare
    plain text := regexp_replace(path, '^([.]?/)+', '');
begin
    if plain is null or plain = '' or plain ~ '(^|/)[.]{0,2}(/|$)' or plain ~ '[[:cntrl:]]' or length(plain) > 1024 then
        raise exception 'a path in a datastore must have 1 to 1024 characters and no part that is empty, . or .., got %',
            coalesce(quote_literal(path), 'NULL') using errcode = 'ML009';
    end if;
    return plain;
end
$$;
comment on function dbml_channel._plain_path(text) is 'A path in a datastore, without ./ and / in front.';

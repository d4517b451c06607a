create or replace function dbml.regenerate_key(service text, key text, value text default null, workspace text default null)
returns text
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    known dbml._services;
    fresh constant text := coalesce(value, dbml_channel._new_key());
begin
    known := dbml_channel._find_service(service, workspace, 'write');
    if key is null or lower(key) not in ('primary', 'secondary') then
        raise exception 'a key of a service must be Primary or Secondary, got %', coalesce(quote_literal(key), 'NULL') using errcode = 'ML009';
    elsif fresh !~ '^[!-~]{8,255}$' then
        raise exception 'a key must be 8 to 255 printable characters without spaces, got %', length(fresh) using errcode = 'ML009';
    end if;
    update dbml._services s
    set primary_key = case lower(key) when 'primary' then fresh else s.primary_key end,
        secondary_key = case lower(key) when 'secondary' then fresh else s.secondary_key end
    where s.service_id = known.service_id;
    return fresh;
end
$$;
comment on function dbml.regenerate_key(text, text, text, text) is
'Replace one key of a service, while the other goes on opening it; returns the new one.

key: ''Primary'' or ''Secondary''. What runs takes it within a second or two, without a restart.
Errors: ML009 another key, or a value that no header takes; ML080 no such service.
Example: BEGIN; SELECT dbml.deploy(''demo-diabetes'', ''my-service''); SELECT length(dbml.regenerate_key(''my-service'', ''Primary'')); ROLLBACK;';

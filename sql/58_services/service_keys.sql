create or replace function dbml.service_keys(service text, workspace text default null)
returns table (primary_key text, secondary_key text)
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads a private table.
rows 1
as $$
declare
    known dbml._services;
begin
    known := dbml_channel._find_service(service, workspace, 'write');
    return query select known.primary_key, known.secondary_key;
end
$$;
comment on function dbml.service_keys(text, text) is
'The two keys of a service, to contributors of its workspace alone: a request has one as Authorization: Bearer KEY.

Where auth_enabled is false, the service asks for none.
Errors: ML050 no such workspace; ML080 no such service.
Example: BEGIN; SELECT dbml.deploy(''demo-diabetes'', ''my-service'', auth_enabled => true); SELECT length(primary_key) FROM dbml.service_keys(''my-service''); ROLLBACK;';

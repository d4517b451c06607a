create or replace function dbml.delete_environment(environment text, workspace text default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    gone jsonb := dbml_channel.find_environment(environment, workspace);
    held text;
begin
    perform dbml_channel.find_workspace(workspace, 'write');
    if gone is null then
        raise exception 'environment must be given, got NULL' using errcode = 'ML009';
    end if;
    select string_agg(quote_literal(m.name || ':' || m.version), ', ' order by m.name, m.version) into held
    from dbml._models m where m.environment_id = (gone ->> 'id')::bigint;
    if held is not null then
        raise exception 'an environment must have no models to be deleted, "%:%" has %', gone ->> 'name', gone ->> 'version', held
            using errcode = 'ML009', hint = 'SELECT dbml.delete_model(''...'') first';
    end if;
    delete from dbml._environments e where e.environment_id = (gone ->> 'id')::bigint;
    return (gone ->> 'version')::integer;
end
$$;
comment on function dbml.delete_environment(text, text) is
'Delete one version of an environment that no model needs; returns the version that went.

environment: ''name'' means the newest version. Runs keep its name and the digest of its lock.
What the worker has built of it stays in its cache directory.
Errors: ML036 no such environment; ML009 a model was registered under it.
Example: BEGIN; SELECT dbml.create_environment(''gone'', ''joblib''); SELECT dbml.delete_environment(''gone''); ROLLBACK;';

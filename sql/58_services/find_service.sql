create or replace function dbml_channel._find_service(service text, workspace text, wanted text)
returns dbml._services
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads a private table, for definers that say which right is wanted.
as $$
declare
    home record;
    found_service dbml._services;
begin
    home := dbml_channel.find_workspace(workspace, wanted);
    select s.* into found_service from dbml._services s where s.workspace_id = home.id and s.name = _find_service.service;
    if found_service.service_id is null then
        raise exception 'service "%" is not in workspace "%"', service, home.name
            using errcode = 'ML080', detail = jsonb_build_object('service', service, 'workspace', home.name),
                  hint = 'SELECT name, state FROM dbml.services';
    end if;
    return found_service;
end
$$;
comment on function dbml_channel._find_service(text, text, text) is
    'A service by name, if the caller has the right wanted in its workspace.';

create or replace function dbml_channel._check_service(config jsonb, tags jsonb, properties jsonb)
returns void
language plpgsql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    known constant text[] := '{port,host,cpu_cores,memory_gb,threads,queue,timeout_s,max_body_mb,batch_rows,batch_delay_ms,drain_s,'
        'restart,environment_variables,replicas,namespace,folder,gpu_cores,registry,probe_s,probe_failures,snapshot,entry_script,models}';
    wrong text;
begin
    if jsonb_typeof(config) <> 'object' or jsonb_typeof(tags) <> 'object' or jsonb_typeof(properties) <> 'object' then
        raise exception 'config, tags and properties of a service must be JSON objects, got %, % and %', config, tags, properties
            using errcode = 'ML009';
    end if;
    select k into wrong from jsonb_object_keys(config) k where k <> all (known) order by k limit 1;
    if wrong is not null then
        raise exception 'a service''s config must have keys of %, got %', array_to_string(known, ', '), wrong using errcode = 'ML009';
    end if;
    select format('%s=%s', e.key, e.value) into wrong from jsonb_each(config) e
    where case when e.key in ('host', 'restart', 'namespace', 'registry', 'folder', 'snapshot', 'entry_script') then jsonb_typeof(e.value) <> 'string'
               when e.key = 'environment_variables' then jsonb_typeof(e.value) <> 'object'
               when e.key = 'models' then jsonb_typeof(e.value) <> 'array'
               else jsonb_typeof(e.value) <> 'number' or (e.value #>> '{}')::numeric < 0 end
       or e.key = 'port' and (e.value #>> '{}')::numeric not between 0 and 65535
       or e.key = 'restart' and e.value #>> '{}' not in ('always', 'never')
    order by 1 limit 1;
    if wrong is not null then
        raise exception 'a service''s config must hold a port of 0 to 65535, numbers >= 0, restart of always or never, got %', wrong
            using errcode = 'ML009';
    end if;
end
$$;
comment on function dbml_channel._check_service(jsonb, jsonb, jsonb) is 'Refuse what a service cannot be configured with.';

create or replace function dbml_channel._new_key()
returns text
language sql volatile parallel safe security invoker
set search_path = pg_catalog, pg_temp
return translate(encode(sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')), 'base64'), '+/=', '-_');
comment on function dbml_channel._new_key() is 'A key of 244 random bits, in characters that headers take.';

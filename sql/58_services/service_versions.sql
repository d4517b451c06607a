-- Each thing that a service is asked to serve has a number of its own, a candidate's too; it is remembered under it.
create or replace function dbml_channel._number_service()
returns trigger
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads and writes private tables, for whoever may write dbml._services.
as $$
begin
    if tg_when = 'BEFORE' then
        new.generation := greatest(new.generation, 1 + (select max(v.generation) from dbml._service_versions v where v.service_id = new.service_id));
        return new;
    end if;
    insert into dbml._service_versions (workspace_id, service_id, generation, role, models, image, config, created_by)
    values (new.workspace_id, new.service_id, new.generation, 'current', new.models, new.image, new.config,
            dbml_channel.caller());
    return null;
end
$$;
comment on function dbml_channel._number_service() is 'Number and remember what a service is asked to serve.';

create or replace trigger is_numbered before update of generation on dbml._services
    for each row when (new.generation <> old.generation) execute function dbml_channel._number_service();
create or replace trigger is_remembered after insert or update of generation on dbml._services
    for each row execute function dbml_channel._number_service();

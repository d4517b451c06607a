create or replace function dbml_channel._build_environment(environment_id bigint)
returns void
language plpgsql volatile parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads the private table.  Called by definers: who may predict with a model may have its environment built.
as $$
declare
    wanted dbml._environments;
    said record;
begin
    select * into wanted from dbml._environments e where e.environment_id = _build_environment.environment_id;
    if wanted.environment_id is null then
        raise exception 'the environment was deleted' using errcode = 'ML036',
            hint = 'SELECT workspace, name, version FROM dbml.environments';
    end if;
    perform * from dbml_channel._open_call(jsonb_build_object('kind', 'environment', 'form', 'build', 'name', wanted.name,
        'version', wanted.version, 'python_version', wanted.python_version, 'lock_sha256', wanted.lock_sha256), wanted.lock);
    loop
        for said in select e.tag, e.body from dbml_channel.exchange('next {}') e loop
            if said.tag = 'done' then
                return;
            elsif said.tag = 'notice' then
                raise notice '%', said.body;
            else
                raise exception 'the worker answered with "%", which this schema does not know', said.tag
                    using errcode = 'ML013', hint = 'dbml upgrade, and restart the worker';
            end if;
        end loop;
    end loop;
end
$$;
comment on function dbml_channel._build_environment(bigint) is
    'Let the worker build a locked environment that it does not have, and tell how it goes by notices.';

create or replace function dbml_channel.build_environment(environment_id bigint)
returns void
language plpgsql volatile parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: as above, for a caller who may use something in the environment's workspace.
as $$
declare
    home bigint := (select e.workspace_id from dbml._environments e where e.environment_id = build_environment.environment_id);
begin
    if home is not null then
        perform dbml_channel.require(home, 'use');
    end if;
    perform dbml_channel._build_environment(environment_id);
end
$$;
comment on function dbml_channel.build_environment(bigint) is 'Let the worker build the environment that the caller''s script runs in.';

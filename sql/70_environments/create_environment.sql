create or replace function dbml.create_environment(
    name           text,
    spec           text,
    python_version text  default null,
    workspace      text  default null,
    description    text  default null,
    tags           jsonb default '{}')
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.  Who may not run scripts is refused by open_call.
as $$
declare
    home record;
    said record;
    about jsonb;
    locked text;
    newest dbml._environments;
    state text; message text;
begin
    if name is null or name ~ '[:@/[:cntrl:]]' or btrim(name) <> name or length(name) not between 1 and 255 then
        raise exception 'an environment''s name must have 1 to 255 characters and none of : @ /, got %', coalesce(quote_literal(name), 'NULL')
            using errcode = 'ML009';
    elsif spec is null then
        raise exception 'spec must be given, got NULL' using errcode = 'ML009',
            hint = format('SELECT dbml.create_environment(%L, ''scikit-learn==1.7.2'')', name);
    elsif jsonb_typeof(coalesce(tags, '{}')) <> 'object' then
        raise exception 'tags must be a JSON object, got %', tags using errcode = 'ML009';
    end if;
    home := dbml_channel.find_workspace(workspace, 'write');
    begin
        perform * from dbml_channel._open_call(jsonb_build_object(
            'kind', 'environment', 'form', 'resolve', 'spec', spec, 'python_version', python_version));
        while locked is null loop
            for said in select e.tag, e.head, e.body from dbml_channel.exchange('next {}') e loop
                if said.tag = 'resolved' then
                    about := said.head::jsonb;
                    locked := said.body;
                elsif said.tag = 'notice' then
                    raise notice '%', said.body;
                else
                    raise exception 'the worker answered with "%", which this schema does not know', said.tag
                        using errcode = 'ML013', hint = 'dbml upgrade, and restart the worker';
                end if;
            end loop;
        end loop;
    exception when query_canceled or others then
        get stacked diagnostics state = returned_sqlstate, message = message_text;
        perform dbml_channel.abandon(state, message);
        raise;
    end;
    -- Versions count from 1 without a gap: one creation of a name at a time, to the end of the transaction.
    perform pg_advisory_xact_lock(hashtextextended('dbml environment ' || home.id || ' ' || name, 0));
    select * into newest from dbml._environments e
    where e.workspace_id = home.id and e.name = create_environment.name order by e.version desc limit 1;
    if (newest.spec, newest.lock, newest.python_version) = (spec, locked, about ->> 'python_version') then
        return newest.version;
    end if;
    insert into dbml._environments (workspace_id, name, version, format, spec, python_version, lock, lock_sha256, description,
                                    tags, properties, created_by)
    values (home.id, name, coalesce(newest.version, 0) + 1, about ->> 'format', spec, about ->> 'python_version', locked,
            encode(sha256(convert_to(locked, 'UTF8')), 'hex'), description, coalesce(tags, '{}'), about -> 'properties',
            dbml_channel.caller());
    return coalesce(newest.version, 0) + 1;
end
$$;
comment on function dbml.create_environment(text, text, text, text, text, jsonb) is
'Lock the packages that scripts and models may run with, as the next version of an environment; returns the version.

spec is a pip requirements text, a conda environment.yml or a pyproject.toml: the text itself tells which. The worker
resolves it once; the exact versions, with the hashes of their files, are the environment''s lock in dbml.environments.
What dbml itself needs (numpy, pandas, pyarrow, ...) is added. Scripts run in it with environment => ''name'', and what
they register is scored in it; the worker builds it when it is first used. ''name:3'' is a version, ''name'' the newest.
The same specification with the same lock returns the version that is there. The environment belongs to the transaction.
Errors: ML009 a bad name or option; ML037 the resolver''s own words, and the former version stays in use; ML010, ML011
the worker; ML050 no such workspace.
Example: SELECT dbml.create_environment(''manual'', ''joblib'');';

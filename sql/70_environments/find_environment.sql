create or replace function dbml_channel.find_environment(environment text, workspace text default null)
returns jsonb
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables, in the caller's snapshot.
as $$
declare
    wanted constant text := coalesce(nullif(workspace, ''), nullif(current_setting('dbml.workspace', true), ''), 'default');
    plain constant text := split_part(environment, ':', 1);
    mark constant text := substr(environment, length(plain) + 2);
    found_environment jsonb;
begin
    if environment is null then
        return null;
    elsif mark <> '' and mark !~ '^[0-9]{1,9}$' or environment like '%:' then
        raise exception 'an environment''s version must be a number, got "%"', mark
            using errcode = 'ML009', hint = 'environments are ''name'' or ''name:3''';
    end if;
    select jsonb_build_object('id', e.environment_id, 'name', e.name, 'version', e.version,
                              'python_version', e.python_version, 'lock_sha256', e.lock_sha256)
    into found_environment
    from dbml._workspaces w
    join dbml._environments e on e.workspace_id = w.workspace_id and e.name = plain
        and (mark = '' or e.version = nullif(mark, '')::integer)
    where w.name = wanted and dbml_channel.may(w.workspace_id, 'use')
    order by e.version desc limit 1;
    if found_environment is null then
        perform dbml_channel.find_workspace(wanted, 'use');
        raise exception 'environment "%" is not in workspace "%"', environment, wanted
            using errcode = 'ML036', detail = jsonb_build_object('environment', environment, 'workspace', wanted),
                  hint = 'SELECT workspace, name, version FROM dbml.environments';
    end if;
    return found_environment;
end
$$;
comment on function dbml_channel.find_environment(text, text) is
    'The version that a reference (name, name:3) means now, as a request names it; NULL for the worker''s own packages.';

create or replace function dbml_channel.caller()
returns text
language sql stable parallel safe security invoker
begin atomic
    -- Both survive a security definer boundary; current_user does not.
    select case current_setting('role') when 'none' then session_user::text else current_setting('role') end;
end;
comment on function dbml_channel.caller() is
    'The role that calls, inside security definer functions too: SET ROLE''s, else the session''s.';

create or replace function dbml_channel.find_workspace(workspace text, out id bigint, out name text)
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads the private table of workspaces, by name.
as $$
declare
    wanted constant text := coalesce(workspace, nullif(current_setting('dbml.workspace', true), ''), 'default');
begin
    select w.workspace_id, w.name into id, find_workspace.name from dbml._workspaces w where w.name = wanted;
    if id is null then
        raise exception 'workspace "%" does not exist', wanted
            using errcode = 'ML050', detail = jsonb_build_object('workspace', wanted),
                  hint = format('SELECT dbml.create_workspace(%L)', wanted);
    end if;
end
$$;
comment on function dbml_channel.find_workspace(text) is
    'The workspace of a call: its argument, else SET dbml.workspace, else "default".';

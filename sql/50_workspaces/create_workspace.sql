create or replace function dbml.create_workspace(
    name            text,
    subscription_id text    default null,
    resource_group  text    default null,
    location        text    default null,
    description     text    default null,
    tags            jsonb   default '{}',
    exist_ok        boolean default false)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
declare
    made bigint;
begin
    insert into dbml._workspaces (name, subscription_id, resource_group, location, description, tags, created_by)
    values (create_workspace.name, create_workspace.subscription_id, create_workspace.resource_group, create_workspace.location,
            create_workspace.description, create_workspace.tags, dbml_channel.caller())
    on conflict do nothing
    returning workspace_id into made;
    if made is not null then   -- nobody else's, until its owner grants
        insert into dbml._workspace_grants (workspace_id, grantee, privilege, granted_by)
        values (made, dbml_channel.caller(), 'owner', dbml_channel.caller());
        return made;
    end if;
    select w.workspace_id into made from dbml._workspaces w where w.name = create_workspace.name;
    if not exist_ok or not dbml_channel.may(made, 'read') then
        raise exception 'workspace "%" exists', name using errcode = 'ML009',
            hint = case when dbml_channel.may(made, 'read') then format('SELECT dbml.create_workspace(%L, exist_ok => true)', name)
                else 'it is another role''s: choose another name' end;
    end if;
    return made;
exception when check_violation then
    raise exception 'a workspace''s name must have 1 to 255 characters and none of : @ /, and its tags be a JSON object, got % and %',
        coalesce(quote_literal(name), 'NULL'), tags using errcode = 'ML009';
end
$$;
comment on function dbml.create_workspace(text, text, text, text, text, jsonb, boolean) is
'Create a workspace, which holds models, experiments and runs apart from those of others; returns its id.

It is its creator''s alone, and of those who administer dbml, until dbml.grant_workspace lets others in.
Use it with SET dbml.workspace = ''name'', or the argument workspace of every function.
Errors: ML009 where it exists (unless exist_ok, and the caller may read it) or the name is not plain.
Example: BEGIN; SELECT dbml.create_workspace(''churn'', resource_group => ''marketing'', location => ''office''); ROLLBACK;';

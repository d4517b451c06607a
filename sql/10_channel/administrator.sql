create or replace function dbml_channel.is_administrator(role text)
returns boolean
language sql stable parallel safe security invoker
begin atomic
    select pg_has_role(is_administrator.role, (select n.nspowner from pg_namespace n where n.nspname = 'dbml'), 'member')
        -- Where the installing role may not create roles there may be none.
        or coalesce(pg_has_role(is_administrator.role, (select r.oid from pg_roles r where r.rolname = 'dbml_admin'), 'member'), false);
end;
comment on function dbml_channel.is_administrator(text) is
    'Whether a role administers dbml: the owner of the schema and members of it, dbml_admin and members of that.';

create or replace function dbml_channel.is_administrator(role text)
returns boolean
language sql stable parallel safe security invoker
begin atomic
    select pg_has_role(is_administrator.role, (select n.nspowner from pg_namespace n where n.nspname = 'dbml'), 'member');
end;
comment on function dbml_channel.is_administrator(text) is
    'Whether a role administers dbml: the owner of the schema and its members.';

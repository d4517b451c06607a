create or replace function dbml.grant_pool(pool text, role text, as_default boolean default false)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table, for administrators.
as $$
begin
    perform dbml_channel._check_administrator('grant pools');
    if not exists (select from dbml._pools p where p.name::text = grant_pool.pool) then
        perform dbml_channel._no_pool(pool);
    elsif role is null or role <> 'public' and to_regrole(quote_ident(role)) is null then
        raise exception 'role "%" does not exist', role using errcode = 'undefined_object';
    elsif as_default is null then
        raise exception 'as_default must be true or false, got NULL' using errcode = 'ML009';
    end if;
    -- A role has one default: the last that was said.
    if as_default then
        update dbml._pool_grants g set is_default = false where g.grantee = grant_pool.role and g.is_default;
    end if;
    insert into dbml._pool_grants (pool, grantee, is_default, granted_by)
    values (grant_pool.pool, grant_pool.role, grant_pool.as_default, dbml_channel.caller())
    on conflict on constraint _pool_grants_pkey do update
    set is_default = excluded.is_default, granted_at = excluded.granted_at, granted_by = excluded.granted_by;
end
$$;
comment on function dbml.grant_pool(text, text, boolean) is
'Let a role and its members use a pool: by pool => name, and with as_default for calls that name none.

A call that names no pool gets the default of its role; where the role has none, that of the roles it is a member of,
fewest steps first, then by the role''s name; then that of public; then the pool default. Everybody may use its own
default, which is the pool default where no rule names another; every other pool needs a rule. Administrators may use all.
role is a role, or public for everybody. A role has one default: the last that was said.
Errors: 42501 no administrator; ML060 no such pool; 42704 no such role.
Example: SELECT dbml.create_pool(''nightly'', memory_mb => 512);
    SELECT dbml.grant_pool(''nightly'', ''pg_monitor'', as_default => true);
    SELECT dbml.delete_pool(''nightly'');';

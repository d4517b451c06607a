create or replace function dbml.revoke_pool(pool text, role text)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table, for administrators.
as $$
begin
    perform dbml_channel._check_administrator('revoke pools');
    if not exists (select from dbml._pools p where p.name::text = revoke_pool.pool) then
        perform dbml_channel._no_pool(pool);
    end if;
    delete from dbml._pool_grants g where (g.pool, g.grantee) = (revoke_pool.pool, revoke_pool.role);
    return found;
end
$$;
comment on function dbml.revoke_pool(text, text) is
'Take back what dbml.grant_pool gave; returns whether the role had it.

Errors: 42501 no administrator; ML060 no such pool.
Example: SELECT dbml.create_pool(''nightly'', memory_mb => 512);
    SELECT dbml.grant_pool(''nightly'', ''pg_monitor'');
    SELECT dbml.revoke_pool(''nightly'', ''pg_monitor'');
    SELECT dbml.delete_pool(''nightly'');';

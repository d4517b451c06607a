create or replace function dbml.delete_pool(name text)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables, for administrators.
as $$
begin
    perform dbml_channel._check_administrator('delete pools');
    if name = 'default' then
        raise exception 'the pool "default" must be there' using errcode = 'ML009',
            hint = 'SELECT dbml.grant_pool(''another'', ''public'', as_default => true) puts another one in its place';
    end if;
    delete from dbml._pools p where p.name::text = delete_pool.name;
    if not found then
        perform dbml_channel._no_pool(name);
    end if;
end
$$;
comment on function dbml.delete_pool(text) is
'Delete a pool with its rules. Scripts that run in it run on; roles whose default it was use the next that fits.

Errors: 42501 no administrator; ML009 it is the pool default; ML060 no such pool.
Example: SELECT dbml.create_pool(''nightly'', memory_mb => 512);
    SELECT dbml.delete_pool(''nightly'');';

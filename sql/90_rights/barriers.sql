-- Which rows a view has for its reader is decided before anything of the reader's own is asked: else a cheap function in a
-- where clause would be called with the rows of every workspace, and could tell of them.
do $$
declare
    shown regclass;
begin
    for shown in select c.oid::regclass from pg_class c where c.relnamespace = 'dbml'::regnamespace and c.relkind = 'v' loop
        execute format('alter view %s set (security_barrier = true)', shown);
    end loop;
end
$$;

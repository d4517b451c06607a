-- Row-level security on what belongs to a workspace, by the predicate that the views have: whoever is granted a table
-- sees what is in its own workspaces.  The owner is not bound by it, and so neither are the functions, which ask for
-- themselves; nor is the worker, which records the runs of all.
do $$
declare
    secured record;
    place text;
begin
    for secured in
        select c.oid::regclass as name,
               case when c.relname ~ '^_workspaces$|_grants$' then 'own' else 'write' end as change,
               -- What a row says of where it belongs: its workspace, or the run, the image or the model that it is of.
               (select a.attname::text from pg_attribute a
                where a.attrelid = c.oid and a.attname in ('workspace_id', 'run_id', 'image_id', 'model_id') and not a.attisdropped
                order by array_position(array['workspace_id', 'run_id', 'image_id', 'model_id'], a.attname::text) limit 1) as told_by
        from pg_class c
        where c.relnamespace = 'dbml'::regnamespace and c.relkind = 'r' and c.relrowsecurity
    loop
        place := case secured.told_by when 'workspace_id' then 'workspace_id'
            when 'run_id' then format('(select r.workspace_id from dbml._runs r where r.run_id = %s.run_id)', secured.name)
            when 'image_id' then format('(select i.workspace_id from dbml._images i where i.image_id = %s.image_id)', secured.name)
            else format('(select m.workspace_id from dbml._models m where m.model_id = %s.model_id)', secured.name) end
            || ' = any (array(select dbml_channel.workspaces(%L)))';
        execute format('drop policy if exists reading on %s', secured.name);
        execute format('create policy reading on %s for select using (%s)', secured.name, format(place, 'read'));
        execute format('drop policy if exists adding on %s', secured.name);
        execute format('create policy adding on %s for insert with check (%s)', secured.name, format(place, secured.change));
        execute format('drop policy if exists changing on %s', secured.name);
        execute format('create policy changing on %s for update using (%s)', secured.name, format(place, secured.change));
        execute format('drop policy if exists deleting on %s', secured.name);
        execute format('create policy deleting on %s for delete using (%s)', secured.name, format(place, secured.change));
        if to_regrole('dbml_worker') is not null then
            execute format('drop policy if exists of_the_worker on %s', secured.name);
            execute format('create policy of_the_worker on %s to dbml_worker using (true) with check (true)', secured.name);
        end if;
    end loop;
end
$$;

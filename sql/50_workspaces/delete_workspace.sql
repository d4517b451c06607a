create or replace function dbml.delete_workspace(name text)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: deletes from private tables.
as $$
declare
    home record;
    digests bytea[];
begin
    if name is null then
        raise exception 'name must be given, got NULL' using errcode = 'ML009';
    end if;
    home := dbml_channel.find_workspace(name, 'own');
    if home.name = 'default' then
        raise exception 'the workspace "default" must stay: it is that of a call that names none' using errcode = 'ML009';
    elsif exists (select from dbml.runs r where r.workspace = home.name and r.status in ('queued', 'running')) then
        raise exception 'a workspace must have no runs that go on to be deleted, "%" has', home.name using errcode = 'ML009',
            hint = format('SELECT run_id, status FROM dbml.runs WHERE workspace = %L AND status IN (''queued'', ''running'')', home.name);
    end if;
    if exists (select from dbml._maintained k where k.workspace_id = home.id) then
        raise exception 'a workspace must keep no predictions to be deleted, "%" does', home.name using errcode = 'ML009',
            hint = format('SELECT dbml.delete_maintained_predictions(target, %L) FROM dbml.maintained_predictions WHERE workspace = %L', home.name, home.name);
    end if;
    select array_agg(distinct d.digest) into digests from (
        select m.digest from dbml._models m where m.workspace_id = home.id
        union select f.digest from dbml._model_files f join dbml._models m using (model_id) where m.workspace_id = home.id
        union select f.digest from dbml._image_files f join dbml._images i using (image_id) where i.workspace_id = home.id
        union select s.digest from dbml._snapshots s where s.workspace_id = home.id
        union select f.digest from dbml._files f where f.workspace_id = home.id
        union select f.digest from dbml._dataset_files f where f.workspace_id = home.id
        union select a.digest from dbml._artifacts a join dbml._runs r using (run_id) where r.workspace_id = home.id) d;
    delete from dbml._runs r where r.workspace_id = home.id;
    delete from dbml._run_datasets d where d.workspace_id = home.id;   -- refers to nothing
    delete from dbml._experiments e where e.workspace_id = home.id;
    delete from dbml._images i where i.workspace_id = home.id;   -- before the models, to which they refer
    delete from dbml._models m where m.workspace_id = home.id;   -- before the environments, to which they refer
    delete from dbml._workspaces w where w.workspace_id = home.id;
    perform dbml._free_blob(d) from unnest(digests) d;
    return home.id;
end
$$;
comment on function dbml.delete_workspace(text) is
'Delete a workspace with all that is in it: models, runs and what they kept, files, datasets, environments; returns the id it had.

It belongs to the transaction: rolled back, all of it is there again.
Errors: ML050 no such workspace; ML009 "default", or a workspace with runs that go on.
Example: BEGIN; SELECT dbml.create_workspace(''gone''); SELECT dbml.delete_workspace(''gone''); ROLLBACK;';

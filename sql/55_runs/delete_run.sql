create or replace function dbml.delete_run(run_id uuid)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables, for who began the run or owns its workspace.
as $$
declare
    found_run constant dbml._runs := dbml._find_run(run_id, 'read');
    gone uuid[];
    snapshots bytea[];
    bytes bytea[];
    held text;
begin
    if found_run.username <> dbml_channel.caller() or not dbml_channel.may(found_run.workspace_id, 'write') then
        perform dbml_channel.require(found_run.workspace_id, 'own');
    end if;
    with recursive below as (
        select found_run.run_id as run_id
        union
        select r.run_id from dbml._runs r join below b on r.parent_run_id = b.run_id
    )
    select array_agg(b.run_id) into gone from below b;
    perform from dbml._runs r where r.run_id = any (gone) order by r.run_id for update;
    select string_agg(r.run_id || ' is ' || r.status, ', ' order by r.run_id) into held
    from dbml.runs r where r.run_id = any (gone) and r.status in ('queued', 'running');
    if held is not null then
        raise exception 'a run must have ended to be deleted, %', left(held, 200) using errcode = 'ML009',
            detail = jsonb_build_object('run_id', run_id),
            hint = 'SELECT dbml.cancel_script(''...''), or dbml.finish_run(''...'', ''canceled'') for a program''s';
    end if;
    select string_agg(quote_literal(m.name || ':' || m.version), ', ' order by m.name, m.version) into held
    from dbml._models m where m.run_id = any (gone);
    if held is not null then
        raise exception 'a run must be no model''s origin to be deleted, % is that of %', run_id, left(held, 200)
            using errcode = 'ML009', detail = jsonb_build_object('run_id', run_id),
                  hint = 'SELECT dbml.delete_model(''...'') first, or keep the run: it tells where the model comes from';
    end if;
    select string_agg(quote_literal(l.dataset), ', ' order by l.dataset) into held
    from dbml._run_datasets l join dbml._datasets d using (dataset_id)
    where l.run_id = any (gone) and l.direction = 'output';
    if held is not null then
        raise exception 'a run must be no dataset''s origin to be deleted, % is that of %', run_id, left(held, 200)
            using errcode = 'ML009', detail = jsonb_build_object('run_id', run_id),
                  hint = 'SELECT dbml.delete_dataset(''...'') first, or keep the run: it tells where the dataset comes from';
    end if;
    select coalesce(array_agg(distinct a.digest), '{}') into bytes from dbml._artifacts a where a.run_id = any (gone);
    select coalesce(array_agg(distinct r.snapshot) filter (where r.snapshot is not null), '{}') into snapshots
    from dbml._runs r where r.run_id = any (gone);
    delete from dbml._run_datasets l where l.run_id = any (gone);
    delete from dbml._runs r where r.run_id = any (gone);
    delete from dbml._snapshots s where s.workspace_id = found_run.workspace_id and s.digest = any (snapshots)
        and not exists (select from dbml._runs r where (r.workspace_id, r.snapshot) = (s.workspace_id, s.digest));
    perform dbml._free_blob(d) from unnest(bytes || snapshots) d;
    return cardinality(gone);
end
$$;
comment on function dbml.delete_run(uuid) is
'Delete a run that has ended, with its parts, metrics, log, files and outputs; returns how many runs went.

Who began it may, as long as they may write in its workspace, and an owner of the workspace. A run that is the origin of a
model or of a dataset''s version is refused, and so is one with a part that is: lineage stays whole. A snapshot that no other
run has goes with it, and so do bytes that nothing else holds. Models and datasets that it used stay, and so do its replays.
Errors: ML052 no such run; 42501 it is somebody else''s; ML009 it has not ended, or something comes from it.
Example: BEGIN; SELECT dbml.delete_run(run_id) FROM (SELECT dbml.start_run(''by-hand'') AS run_id) r,
    LATERAL (SELECT dbml.finish_run(r.run_id, ''canceled'')) f; ROLLBACK;';

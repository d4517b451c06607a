create or replace function dbml_channel.end_maintained(target text, workspace text)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: drops what the owner keeps, for whom it is kept and for who may write the model.
as $$
declare
    kept_id constant bigint := (dbml_channel.find_maintained(end_maintained.target, workspace, 'delete')).kept_id;
begin
    perform pg_advisory_xact_lock(hashtextextended('dbml maintained ' || kept_id, 0));
    delete from dbml._maintained k where k.maintained_id = kept_id;
    return kept_id;
end
$$;
comment on function dbml_channel.end_maintained(text, text) is 'Drop kept predictions with their view.';

create or replace function dbml.delete_maintained_predictions(target text, workspace text default null)
returns boolean
language plpgsql volatile parallel unsafe security invoker
-- Invoker: triggers and the view go with the caller's rights; what is not the caller's stays, and does nothing any more.
as $$
declare
    named constant text := dbml_channel.named_view(target);
    kept constant record := dbml_channel.find_maintained(named, workspace, 'delete');
    trigger_ record;
begin
    for trigger_ in select t.tgname, t.tgrelid::regclass as of_table, pg_has_role(c.relowner, 'usage') as is_mine
                    from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid
                    where (t.tgfoid = 'dbml_channel.follow_source()'::regprocedure or exists (
                        select from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
                        where p.oid = t.tgfoid and n.nspname = 'dbml_predictions' and p.proname = 'follow_' || kept.kept_id)) and t.tgparentid = 0 and t.tgname ~ ('^dbml_' || kept.kept_id || '_')
                    order by c.relkind = 'p' desc, t.tgrelid, t.tgname loop
        if trigger_.is_mine then
            execute format('drop trigger %I on %s', trigger_.tgname, trigger_.of_table);
        end if;
    end loop;
    if exists (select from pg_catalog.pg_class c where c.oid = kept.view_ and pg_has_role(c.relowner, 'usage')) then
        execute format('drop view %s', kept.view_);   -- refused where something of the caller's depends on it
    end if;
    perform dbml_channel.end_maintained(named, workspace);
    return true;
end
$$;
comment on function dbml.delete_maintained_predictions(text, text) is
'Keep predictions no longer: the triggers on their source go, and the target with what it holds.

Who keeps them may, and whoever may write the model: then the triggers stay, do nothing, and the owner of the table drops them.
Errors: ML055 nothing is kept under that name; 2BP01 something depends on the target.
Example: BEGIN; CREATE TABLE flowers AS SELECT * FROM demo.iris; ALTER TABLE flowers ADD PRIMARY KEY (flower);
    SELECT dbml.maintain_predictions(''demo-iris'', ''flowers'', ''flowers_scored'');
    SELECT dbml.delete_maintained_predictions(''flowers_scored''); ROLLBACK;';

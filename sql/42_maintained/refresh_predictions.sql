create or replace function dbml_channel.begin_refresh(kept_id bigint)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: empties what the owner keeps, for whom it is kept, who fills it again.
as $$
declare
    m dbml._maintained;
begin
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception 'predictions must be refreshed in a transaction that is READ COMMITTED, this is %', upper(current_setting('transaction_isolation'))
            using errcode = 'ML009', hint = 'BEGIN ISOLATION LEVEL READ COMMITTED';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('dbml maintained ' || kept_id, 0));
    select * into m from dbml._maintained k where k.maintained_id = kept_id;
    if m.maintainer is distinct from quote_ident(dbml_channel.caller())::regrole then
        raise insufficient_privilege using message = format('predictions %s are kept by another role', kept_id);
    end if;
    execute format('delete from dbml_predictions.p%s', kept_id);
    execute format('grant insert on dbml_predictions.p%s to %s', kept_id, m.maintainer);
end
$$;
comment on function dbml_channel.begin_refresh(bigint) is 'Empty kept predictions, for the caller to fill anew.';

create or replace function dbml_channel.find_maintained(target text, workspace text, wanted text, out kept_id bigint, out view_ regclass)
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads a private table; found by whom it is kept for, or to be deleted by who may write the model.
as $$
declare
    home constant bigint := (dbml_channel.find_workspace(workspace, 'use')).id;
    place text;
begin
    if target !~ '^[0-9]+$' then   -- else the view's own number, which named_view has found
        select string_agg(quote_ident(part), '.') into place from unnest(parse_ident(target)) part;
    end if;
    select k.maintained_id, (select c.oid from pg_class c where c.oid = k.target) into kept_id, view_
    from dbml._maintained k join dbml._models m using (model_id)
    where k.workspace_id = home and (k.target::oid::text = find_maintained.target or k.target_name = place)
      and (pg_has_role(dbml_channel.caller(), k.maintainer, 'usage')
           or wanted = 'delete' and dbml_channel.may_use_model(k.workspace_id, m.name, 'write'))
    order by k.maintained_id desc limit 1;
    if kept_id is null then
        raise exception 'no predictions are kept as %', coalesce(quote_literal(target), 'NULL') using errcode = 'ML055',
            detail = jsonb_build_object('target', target), hint = 'SELECT target, source, model FROM dbml.maintained_predictions';
    end if;
end
$$;
comment on function dbml_channel.find_maintained(text, text, text) is 'The kept predictions that a target names, if the caller may refresh or delete them.';

create or replace function dbml_channel.named_view(target text)
returns text
language plpgsql stable parallel safe security invoker
-- Invoker: by the caller's search path.
as $$
declare
    place text;
begin
    select string_agg(quote_ident(part), '.') into place from unnest(parse_ident(target)) part;
    return coalesce(to_regclass(place)::oid::text, place);
exception when insufficient_privilege then
    return place;   -- a schema that the caller may not look into
end
$$;
comment on function dbml_channel.named_view(text) is 'The number of the view that a target names, or the name where it is gone.';

create or replace function dbml.refresh_predictions(target text, workspace text default null)
returns bigint
language plpgsql volatile parallel unsafe security invoker
-- Invoker: the source is read as the caller.
as $$
declare
    kept_id constant bigint := (dbml_channel.find_maintained(dbml_channel.named_view(target), workspace, 'refresh')).kept_id;
    k record;
begin
    k := dbml_channel.kept_columns(kept_id);
    if k.source is null then
        raise insufficient_privilege using message = format('the predictions "%s" are kept by another role', target),
            hint = 'SELECT target, maintained_by FROM dbml.maintained_predictions';
    elsif not exists (select from pg_catalog.pg_class c where c.oid = k.source) then
        raise undefined_table using message = format('the table of which the predictions "%s" are kept is gone', target),
            hint = format('SELECT dbml.delete_maintained_predictions(%L)', target);
    end if;
    execute format('lock table %s in share row exclusive mode', k.source);
    perform dbml_channel.begin_refresh(kept_id);
    perform dbml_channel.fill_maintained(kept_id, k.source, k.columns, k.bases);
    return dbml_channel.finish_maintained(kept_id, null);
end
$$;
comment on function dbml.refresh_predictions(text, text) is
'Read the source of kept predictions again and score all of it; returns the number of rows.

Wanted after what fires no trigger: a partition that was attached or detached, or was truncated and is younger than the call of
maintain_predictions; triggers that were disabled; a restored backup. Writers of the source wait until the transaction ends.
Errors: ML055 nothing is kept under that name; 42501 it is kept by another role; 42P01 the table is gone.
Example: BEGIN; CREATE TABLE flowers AS SELECT * FROM demo.iris; ALTER TABLE flowers ADD PRIMARY KEY (flower);
    SELECT dbml.maintain_predictions(''demo-iris'', ''flowers'', ''flowers_scored''); SELECT dbml.refresh_predictions(''flowers_scored''); ROLLBACK;';

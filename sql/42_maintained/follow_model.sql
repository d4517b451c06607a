create or replace function dbml_channel._rescore(kept_id bigint, of_model bigint)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
set jit = off
-- Definer: writes what the owner keeps; called by definers only.  What it scores is kept beside the predictions, so that nothing of
-- the source's is read, and nobody's code runs: who moves a model needs no right on the tables, and gets none.
as $$
declare
    m dbml._maintained;
    n bigint;
begin
    perform dbml_channel._keep_statements(kept_id, of_model);
    select * into m from dbml._maintained k where k.maintained_id = kept_id;
    begin
        execute m.statements ->> 'rescore';
        get diagnostics n = row_count;
        execute m.statements ->> 'unanswered';
    exception when data_exception then
        execute m.statements ->> 'unscore';
        get diagnostics n = row_count;
    end;
    perform dbml_channel._settle(m);
    update dbml._maintained k set refreshed_at = clock_timestamp() where k.maintained_id = kept_id;
    return n;
end
$$;
comment on function dbml_channel._rescore(bigint, bigint) is 'Score all kept predictions by a version of a model; returns the number of rows.';

create or replace function dbml_channel._follow_model(workspace bigint, model_name text)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: as _rescore.  What follows an alias must follow it; what follows the latest version says why where it cannot.
as $$
declare
    m record;
    mark text;
    now_ bigint;
    said text;
begin
    for m in select k.maintained_id, k.model, k.target_name from dbml._maintained k
             where k.workspace_id = workspace and split_part(split_part(k.model, '@', 1), ':', 1) = model_name and k.model !~ ':'
             order by k.maintained_id loop
        mark := substr(m.model, length(model_name) + 2);
        select v.model_id into now_ from dbml._models v
        where v.workspace_id = workspace and v.name = model_name
          and (mark = '' or v.version = (select a.version from dbml._model_aliases a
                                         where a.workspace_id = v.workspace_id and a.name = v.name and a.alias = mark))
        order by v.version desc limit 1;
        continue when now_ is null or exists (select from dbml._maintained k where k.maintained_id = m.maintained_id and k.model_id = now_);
        if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
            raise exception 'a model with kept predictions must move in a transaction that is READ COMMITTED, this is %',
                upper(current_setting('transaction_isolation')) using errcode = 'ML009', hint = 'BEGIN ISOLATION LEVEL READ COMMITTED',
                detail = jsonb_build_object('target', m.target_name);
        end if;
        -- From here on nobody writes the source; who has written it has ended, and the next statement sees what he wrote.
        perform pg_advisory_xact_lock(hashtextextended('dbml maintained ' || m.maintained_id, 0));
        if mark <> '' then
            perform dbml_channel._rescore(m.maintained_id, now_);
            continue;
        end if;
        begin
            if not exists (select from dbml._certificates c where c.model_id = now_ and c.engine = 'sql' and c.status = 'certified') then
                raise exception 'the latest version of model "%" is not compiled', model_name using errcode = 'ML027';
            end if;
            perform dbml_channel._rescore(m.maintained_id, now_);
        exception when others then
            get stacked diagnostics said = message_text;
            update dbml._maintained k set problem = said where k.maintained_id = m.maintained_id;
        end;
    end loop;
end
$$;
comment on function dbml_channel._follow_model(bigint, text) is
    'Score kept predictions again that follow a model''s alias, or its latest version, in the transaction that moves it.';

create or replace function dbml_channel._drop_kept()
returns trigger
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: drops what the owner has made; it may go by its model or workspace too.
as $$
begin
    if to_regclass(format('dbml_predictions.p%s', old.maintained_id)) is not null then
        execute format('drop table dbml_predictions.p%s cascade', old.maintained_id);
    end if;
    if to_regprocedure(format('dbml_predictions.follow_%s()', old.maintained_id)) is not null then
        begin
            execute format('drop function dbml_predictions.follow_%s()', old.maintained_id);
        exception when dependent_objects_still_exist then
            null;   -- triggers of somebody else's table, which do nothing any more
        end;
    end if;
    return null;
end
$$;
comment on function dbml_channel._drop_kept() is 'Drop kept predictions, and the view of them, with their record.';
create or replace trigger predictions_go_too after delete on dbml._maintained
    for each row execute function dbml_channel._drop_kept();

create or replace function dbml_channel._recompiled(of_model bigint)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: as _rescore.
as $$
declare
    m record;
begin
    for m in select k.maintained_id, d.workspace_id, d.name::text as name from dbml._maintained k join dbml._models d using (model_id)
             where k.model_id = of_model order by k.maintained_id loop
        perform pg_advisory_xact_lock(hashtextextended('dbml maintained ' || m.maintained_id, 0));
        perform dbml_channel._keep_statements(m.maintained_id, of_model);
    end loop;
    -- What follows the latest version may have waited for this.
    perform dbml_channel._follow_model(d.workspace_id, d.name::text) from dbml._models d where d.model_id = of_model;
end
$$;
comment on function dbml_channel._recompiled(bigint) is 'Let kept predictions be scored by a model''s functions from now on, when it has been compiled after they were made.';

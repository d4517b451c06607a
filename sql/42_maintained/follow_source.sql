create or replace function dbml_channel._kept_for(
    kept_id bigint, relation oid, trigger_ name, with_rights boolean, out m dbml._maintained, out certified boolean)
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables for whoever writes the source; called by definers only.
as $$
declare
    sound boolean;
begin
    -- Shared among writers.  Who moves the model waits for those who have begun, and those who come later wait for that.
    perform pg_advisory_xact_lock_shared(hashtextextended('dbml maintained ' || kept_id, 0));
    select * into m from dbml._maintained k where k.maintained_id = kept_id;
    if m.maintained_id is null then
        return;   -- no longer kept
    elsif current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        -- A snapshot from before the model moved: a serialization failure, to be repeated.
        perform from dbml._maintained k where k.maintained_id = m.maintained_id for share;
    end if;
    if m.source <> relation and not exists (select from pg_partition_ancestors(relation) a where a = m.source) then
        raise exception 'predictions % are kept of table %, not of %', m.maintained_id, m.source, relation::regclass using errcode = 'ML009';
    elsif not with_rights then
        return;
    end if;
    -- The rights of whom they are kept for, as they are now.
    select has_table_privilege(m.maintainer, m.source, 'select') and (not c.relrowsecurity or r.rolsuper or r.rolbypassrls
               or pg_has_role(m.maintainer, c.relowner, 'usage') and not c.relforcerowsecurity)
           and (m.statements ->> 'function' is null or has_function_privilege(m.maintainer, p.oid, 'execute') is not false),
           p.oid is not null and s.status = 'certified' and s.server_version = current_setting('server_version_num')::integer
    into sound, certified
    from pg_class c join pg_roles r on r.oid = m.maintainer
    left join dbml._certificates s on s.model_id = m.model_id and s.engine = 'sql'
    left join pg_proc p on p.pronamespace = 'dbml_models'::regnamespace and p.proname = m.statements ->> 'function'
    where c.oid = m.source;
    if sound is not true then
        raise insufficient_privilege using
            message = format('role %s, for whom predictions of table %s are kept, may no longer read it or predict with model "%s"', m.maintainer, m.source_name, m.model),
            detail = jsonb_build_object('target', m.target_name, 'role', m.maintainer, 'source', m.source_name, 'model', m.model),
            hint = format('SELECT dbml.delete_maintained_predictions(%L), or as the owner of the table: DROP TRIGGER %I ON %s', m.target_name, trigger_, relation::regclass);
    end if;
    -- In memory from here on, and not read from where long values are kept each time that it is asked.  What is not certified now
    -- the model itself scores, until it is compiled again.
    m.statements := m.statements || case when certified then '{}' else '{"function": null}' end::jsonb;
end
$$;
comment on function dbml_channel._kept_for(bigint, oid, name, boolean) is
    'What is kept of a source that is being written, under a lock and with the rights of whom it is kept for; NULL where nothing is any more.';

create or replace function dbml_channel._follow_row(kept_id bigint, what text, relation oid, trigger_ name, row_ anyelement)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
set jit = off
-- Definer: as follow_source.
as $$
declare
    kept constant record := dbml_channel._kept_for(kept_id, relation, trigger_, true);
    m dbml._maintained;
    types oid[];
    number double precision; numbers double precision[]; label text;
    known boolean;
begin
    m := kept.m;
    if m.maintained_id is null then
        return;
    end if;
    begin
        execute m.statements ->> 'types' into types using row_;
    exception when undefined_column then
        types := '{}';
    end;
    perform dbml_channel._require_types(m, types);
    if what = 'delete' then
        execute m.statements ->> 'delete' using row_;
        return;
    elsif m.statements ->> 'function' is not null then
        begin
            case m.prediction_type
                when 'double precision' then execute m.statements ->> 'score' into number using row_;
                when 'double precision[]' then execute m.statements ->> 'score' into numbers using row_;
                else execute m.statements ->> 'score' into label using row_;
            end case;
        exception when data_exception then
            null;
        end;
    end if;
    known := number is not null or numbers is not null or label is not null;
    execute m.statements ->> 'write' using row_, case when relation <> m.source then relation end, number, numbers, label,
        case when known then (m.statements ->> 'version')::integer end;
    if not known then
        perform dbml_channel._settle(m);
    end if;
end
$$;
comment on function dbml_channel._follow_row(bigint, text, oid, name, anyelement) is
    'Score a row that was written, or delete what is kept of it: by statements that are planned anew, whatever has changed.';

create or replace function dbml_channel.follow_source()
returns trigger
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
set jit = off
-- Definer: whoever writes the source need not be let near the model or what is kept.  It runs no code but PostgreSQL's own and the
-- model's: it takes values of PostgreSQL's own types out of the row, and writes a table of the owner's that nobody else can attach
-- anything to.  As a function it cannot be called, and as a trigger it does nothing for a table that is not the source.
as $$
declare
    kept record;
    m dbml._maintained;
    what constant text := tg_argv[1];
    types oid[];
begin
    if what = 'delete' then
        perform dbml_channel._follow_row(tg_argv[0]::bigint, what, tg_relid, tg_name, old);
        return null;
    elsif what in ('insert', 'update') then
        perform dbml_channel._follow_row(tg_argv[0]::bigint, what, tg_relid, tg_name, new);
        return null;
    end if;
    kept := dbml_channel._kept_for(tg_argv[0]::bigint, tg_relid, tg_name, what !~ '^truncate');
    m := kept.m;
    if m.maintained_id is null then
        return null;   -- no longer kept
    elsif what = 'truncate' then
        execute format('truncate dbml_predictions.p%s', m.maintained_id);
        return null;
    elsif what = 'truncate_part' then
        if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
            raise exception 'a partition with kept predictions must be truncated in a transaction that is READ COMMITTED' using errcode = 'ML009',
                hint = 'BEGIN ISOLATION LEVEL READ COMMITTED';
        end if;
        execute format('delete from dbml_predictions.p%s where part = $1', m.maintained_id) using tg_relid;
        return null;
    end if;
    begin
        execute m.statements ->> 'types_of_set' into types;
        if types is null then
            return null;   -- no row was inserted
        end if;
    exception when undefined_column then
        types := '{}';
    end;
    perform dbml_channel._require_types(m, types);
    begin
        execute m.statements ->> case when kept.certified then 'write_set' else 'write_set_unscored' end using (m.statements ->> 'version')::integer;
    exception when data_exception then
        execute m.statements ->> 'write_set_unscored';
    end;
    perform dbml_channel._settle(m);
    return null;
end
$$;
comment on function dbml_channel.follow_source() is
    'The trigger on a source of kept predictions: score what is written, in the writer''s transaction.';

create or replace function dbml_channel._require_types(m dbml._maintained, types oid[])
returns void
language plpgsql stable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if types is distinct from m.types::oid[] then
        raise exception 'table % no longer has the columns of which predictions are kept', m.source_name using errcode = 'ML009',
            detail = jsonb_build_object('target', m.target_name, 'columns', m.columns, 'types', m.types::text[], 'found', types::regtype[]::text[]),
            hint = format('SELECT dbml.delete_maintained_predictions(%L), then dbml.maintain_predictions again', m.target_name);
    end if;
end
$$;
comment on function dbml_channel._require_types(dbml._maintained, oid[]) is
    'Refuse a row whose columns are not of the types that they had: casting another''s type would run another''s code as the owner.';

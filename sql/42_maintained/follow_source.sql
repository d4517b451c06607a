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
    m dbml._maintained;
    what constant text := tg_argv[1];
    sound boolean; certified boolean;
    types oid[];
    number double precision; numbers double precision[]; label text;
    version integer;
    known boolean := true;
begin
    -- Shared among writers.  Who moves the model waits for those who have begun, and those who come later wait for that.
    perform pg_advisory_xact_lock_shared(hashtextextended('dbml maintained ' || tg_argv[0], 0));
    select * into m from dbml._maintained k where k.maintained_id = tg_argv[0]::bigint;
    if m.maintained_id is null then
        return null;   -- no longer kept
    elsif current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        -- A snapshot from before the model moved: a serialization failure, to be repeated.
        perform from dbml._maintained k where k.maintained_id = m.maintained_id for share;
    end if;
    if m.source <> tg_relid and not exists (select from pg_partition_ancestors(tg_relid) a where a = m.source) then
        raise exception 'predictions % are kept of table %, not of %', m.maintained_id, m.source, tg_relid::regclass using errcode = 'ML009';
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
            hint = format('SELECT dbml.delete_maintained_predictions(%L), or as the owner of the table: DROP TRIGGER %I ON %s', m.target_name, tg_name, tg_relid::regclass);
    end if;
    -- In memory from here on, and not read from where long values are kept each time that it is asked.  What is not certified now
    -- the model itself scores, until it is compiled again.
    m.statements := m.statements || case when certified then '{}' else '{"function": null}' end::jsonb;
    if what = 'delete' then
        begin
            execute m.statements ->> 'types' into types using old;
        exception when undefined_column then
            types := '{}';
        end;
        perform dbml_channel._require_types(m, types);
        execute m.statements ->> 'delete' using old;
        return null;
    end if;
    begin
        if what = 'insert_set' then
            execute m.statements ->> 'types_of_set' into types;
            known := types is not null;
        else
            execute m.statements ->> 'types' into types using new;
        end if;
    exception when undefined_column then
        types := '{}';
    end;
    if not known then
        return null;   -- no row was inserted
    end if;
    perform dbml_channel._require_types(m, types);
    version := (m.statements ->> 'version')::integer;
    if what = 'insert_set' then
        begin
            execute m.statements ->> case when certified then 'write_set' else 'write_set_unscored' end using version;
        exception when data_exception then
            execute m.statements ->> 'write_set_unscored';
        end;
        perform dbml_channel._settle(m);
        return null;
    end if;
    if m.statements ->> 'function' is not null then
        begin
            case m.prediction_type
                when 'double precision' then execute m.statements ->> 'score' into number using new;
                when 'double precision[]' then execute m.statements ->> 'score' into numbers using new;
                else execute m.statements ->> 'score' into label using new;
            end case;
        exception when data_exception then
            null;
        end;
    end if;
    known := number is not null or numbers is not null or label is not null;
    execute m.statements ->> 'write' using new, case when tg_relid <> m.source then tg_relid end, number, numbers, label, case when known then version end;
    if not known then
        perform dbml_channel._settle(m);
    end if;
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

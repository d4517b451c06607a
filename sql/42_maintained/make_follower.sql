create or replace function dbml_channel._make_follower(
    kept_id bigint, source_columns text[], types regtype[], bases regtype[], keys integer, predicted text, of_model bigint, version integer,
    function_ text, call text, answered text, updates text)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
-- Definer: makes a function in the owner's schema, of the source's names and types, and of the call that _keep_statements has made.
-- function_, call: NULL where the model itself must score.
as $$
declare
    n constant integer := cardinality(source_columns);
    body text;
begin
    -- The plans are kept for the session, where statements that are executed as text are planned for each row.  What the plans
    -- were made for is compared with what is, under the lock: the model, its function, and the types of the row.
    body := format($f$
declare
    what constant text := tg_argv[1];
    kept record;
    fits boolean; answer %1$s;
begin
    perform pg_advisory_xact_lock_shared(%2$s);
    if current_setting('transaction_isolation') in ('read committed', 'read uncommitted') then
        select k.source,
               (k.source = tg_relid or exists (select from pg_partition_ancestors(tg_relid) a where a = k.source))
               and has_table_privilege(k.maintainer, k.source, 'select')
               and (not c.relrowsecurity or (select r.rolsuper or r.rolbypassrls from pg_roles r where r.oid = k.maintainer)
                    or pg_has_role(k.maintainer, c.relowner, 'usage') and not c.relforcerowsecurity)
               and %3$s
               and (what = 'delete' or exists (select from dbml._certificates s where s.model_id = k.model_id and s.engine = 'sql'
                    and s.status = 'certified' and s.server_version = current_setting('server_version_num')::integer)) as sound
        into kept from dbml._maintained k join pg_class c on c.oid = k.source
        where k.maintained_id = %4$s and k.model_id = %5$s;
        if kept.sound then
            begin
                if what = 'delete' then
                    fits := %6$s;
                else
                    fits := %7$s;
                end if;
                if fits and what <> 'delete' then
                    answer := (select case when %8$s then p end from (select %9$s as p offset 0) g);
                end if;
            exception when undefined_column or datatype_mismatch or data_exception then
                fits := false;
            end;
            if fits and what = 'delete' then
                delete from dbml_predictions.p%4$s where %10$s;
                return null;
            elsif fits and answer is not null then
                insert into dbml_predictions.p%4$s (%11$s, part, prediction, model_version)
                values (%12$s, case when tg_relid <> kept.source then tg_relid end, answer, %13$s) %14$s;
                return null;
            end if;
        end if;
    end if;
    if what = 'delete' then
        perform dbml_channel._follow_row(%4$s, what, tg_relid, tg_name, old);
    else
        perform dbml_channel._follow_row(%4$s, what, tg_relid, tg_name, new);
    end if;
    return null;
end $f$,
        predicted, hashtextextended('dbml maintained ' || kept_id, 0),
        case when function_ is null then 'what = ''delete''' else (
            -- Its number, so that a function that was made anew since is another one.
            select format('has_function_privilege(k.maintainer, %s::oid, ''execute'')', p.oid) from pg_proc p
            where p.pronamespace = 'dbml_models'::regnamespace and p.proname = function_) end,
        kept_id, of_model,
        (select string_agg(format('pg_typeof(old.%I)::oid = %s::oid', c, t::oid), ' and ' order by i) from unnest(source_columns, types) with ordinality u(c, t, i)),
        (select string_agg(format('pg_typeof(new.%I)::oid = %s::oid', c, t::oid), ' and ' order by i) from unnest(source_columns, types) with ordinality u(c, t, i)),
        case when call is null then 'false' else answered end, coalesce(call, 'null::' || predicted),
        (select string_agg(format('c%s = old.%I::%s', i, source_columns[i], bases[i]), ' and ' order by i) from generate_series(1, keys) i),
        (select string_agg('c' || i, ', ' order by i) from generate_series(1, n) i),
        (select string_agg(format('new.%I::%s', source_columns[i], bases[i]), ', ' order by i) from generate_series(1, n) i),
        version, updates);
    execute format('create or replace function dbml_predictions.follow_%s() returns trigger language plpgsql volatile parallel unsafe security definer'
        || ' set search_path = pg_catalog, pg_temp set jit = off as %L', kept_id, body);
    execute format('revoke all on function dbml_predictions.follow_%s() from public', kept_id);
end
$$;
comment on function dbml_channel._make_follower(bigint, text[], regtype[], regtype[], integer, text, bigint, integer, text, text, text, text) is
    'Make the trigger function of one source, whose plans are kept: it scores by a version''s function, and leaves all else to _follow_row.';

create or replace function dbml_channel.begin_maintained(model text, workspace text, source regclass, target text, role text)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: makes the owner's table for what is kept, which the caller may read, and fill until finish_maintained.
as $$
declare
    lent constant record := dbml_channel.find_model(begin_maintained.model, workspace, 'predict');
    of_table record;
    names text[]; types regtype[]; bases regtype[]; colls text[];
    n_keys integer;
    wanted text[];
    kept_id bigint;
    predicted text;
begin
    if role <> dbml_channel.caller() then
        raise exception 'predictions must be kept by the role that calls, % is not %', role, dbml_channel.caller() using errcode = 'ML009',
            hint = 'call it outside of functions that are security definer';
    elsif current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception 'predictions must be kept from a transaction on that is READ COMMITTED, this is %', upper(current_setting('transaction_isolation'))
            using errcode = 'ML009', hint = 'BEGIN ISOLATION LEVEL READ COMMITTED';
    end if;
    select c.*, n.nspname into of_table from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = source;
    if of_table.relkind is null or of_table.relkind not in ('r', 'p') or of_table.relpersistence = 't' then
        raise exception 'source must be a table that lasts, got %', source using errcode = 'ML009',
            hint = 'of a view, name the table that it is of; a temporary table ends with its session';
    elsif of_table.relkind = 'r' and exists (select from pg_inherits i where i.inhparent = source) then
        raise exception 'source must be a table without others that inherit from it, got %', source using errcode = 'ML009',
            hint = 'a partitioned table may be a source';
    elsif of_table.nspname ~ '^(dbml|pg_)' or of_table.nspname = 'information_schema' then
        raise exception 'source must be a table of yours, got %', source using errcode = 'ML009';
    elsif not has_table_privilege(role, source, 'select') then
        raise insufficient_privilege using message = format('role %s may not read table %s', role, source), hint = format('GRANT SELECT ON %s TO %I', source, role);
    elsif of_table.relrowsecurity and not exists (
            select from pg_roles r where r.rolname = role and (r.rolsuper or r.rolbypassrls
                or pg_has_role(r.oid, of_table.relowner, 'usage') and not of_table.relforcerowsecurity)) then
        raise insufficient_privilege using message = format('row-level security keeps rows of table %s from role %s', source, role),
            detail = jsonb_build_object('source', source::text, 'role', role),
            hint = 'its owner keeps predictions of it, and says who reads them: dbml.predict over a query sees what its caller may see';
    end if;
    select cardinality(i.indkey::smallint[]), array_agg(a.attname::text order by k.o), array_agg(a.atttypid::regtype order by k.o),
           array_agg(case when a.attcollation <> t.typcollation and a.attcollation <> 0 then a.attcollation::regcollation::text end order by k.o)
    into n_keys, names, types, colls
    from pg_index i cross join unnest(i.indkey::smallint[]) with ordinality k(attnum, o)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum join pg_type t on t.oid = a.atttypid
    where i.indrelid = source and i.indisprimary and i.indimmediate and k.o <= i.indnkeyatts
    group by i.indexrelid, i.indkey, i.indnkeyatts;
    n_keys := cardinality(names);
    if n_keys is null then
        raise exception 'source must have a primary key, and one that is not deferrable; % has none', source using errcode = 'ML009',
            hint = format('ALTER TABLE %s ADD PRIMARY KEY (...)', source);
    elsif exists (select from unnest(types) t where dbml_channel._base_type(t) is null) then
        raise exception 'the key of source must be of types of PostgreSQL''s own, % has %', source, types using errcode = 'ML009';
    end if;
    -- What is kept beside the key: numbers, and the text that the model takes.
    wanted := coalesce((select c.features from dbml._certificates c where c.model_id = lent.model_id and c.engine = 'sql'), '{}')
        || array(select f.value ->> 'name' from jsonb_array_elements(
               case jsonb_typeof(lent.signature -> 'features') when 'array' then lent.signature -> 'features' end) f);
    select names || coalesce(array_agg(a.attname::text order by a.attnum), '{}'), types || coalesce(array_agg(a.atttypid::regtype order by a.attnum), '{}'),
           colls || coalesce(array_agg(null::text), '{}')
    into names, types, colls
    from pg_attribute a cross join lateral (select dbml_channel._base_type(a.atttypid::regtype)) b(base)
    where a.attrelid = source and a.attnum > 0 and not a.attisdropped and a.attname::text <> all (names)
      and (dbml_channel._is_number(b.base) or dbml_channel._is_text(b.base) and a.attname::text = any (wanted));
    if names && '{prediction,model_version}' and names[1 : n_keys] && '{prediction,model_version}' then
        raise exception 'a key''s column must not be called prediction or model_version, got %', names[1 : n_keys] using errcode = 'ML009';
    end if;
    bases := array(select dbml_channel._base_type(t) from unnest(types) with ordinality u(t, o) order by o);
    insert into dbml._maintained (workspace_id, model_id, model, maintainer, source, source_name, target_name, columns, types, keys, prediction_type)
    values (lent.workspace_id, lent.model_id, begin_maintained.model, quote_ident(role)::regrole, source, source::text, begin_maintained.target, names, types, n_keys, '')
    returning maintained_id into kept_id;
    perform dbml_channel._keep_statements(kept_id, lent.model_id);
    select k.prediction_type into predicted from dbml._maintained k where k.maintained_id = kept_id;
    execute format('create %s table dbml_predictions.p%s (%s, part oid, prediction %s, model_version integer, primary key (%s))',
        case of_table.relpersistence when 'u' then 'unlogged' else '' end, kept_id,
        (select string_agg(format('c%s %s%s', i, b, case when coll is not null then ' collate ' || coll else '' end), ', ' order by i) from unnest(bases, colls) with ordinality u(b, coll, i)),
        predicted, (select string_agg('c' || i, ', ' order by i) from generate_series(1, n_keys) i));
    execute format('create index on dbml_predictions.p%s ((1)) where model_version is null', kept_id);
    execute format('grant usage on schema dbml_predictions to %I', role);
    execute format('grant select, insert on dbml_predictions.p%s to %I', kept_id, role);
    execute format('grant execute on function dbml_predictions.follow_%s() to %I', kept_id, role);   -- to make triggers of it
    return kept_id;
end
$$;
comment on function dbml_channel.begin_maintained(text, text, regclass, text, text) is
    'Make the table that keeps predictions of a source, for the caller to fill.';

create or replace function dbml_channel.finish_maintained(kept_id bigint, target regclass)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: scores what the caller has filled in, and closes it.
as $$
declare
    m dbml._maintained;
begin
    select * into m from dbml._maintained k where k.maintained_id = kept_id;
    if m.maintainer is distinct from quote_ident(dbml_channel.caller())::regrole then
        raise insufficient_privilege using message = format('predictions %s are kept by another role', kept_id);
    elsif not exists (select from pg_class c where c.oid = coalesce(finish_maintained.target, m.target) and c.relkind = 'v' and c.relowner = m.maintainer::oid) then
        raise exception 'target must be a view of role %, got %', m.maintainer, finish_maintained.target using errcode = 'ML009';
    end if;
    execute format('revoke insert on dbml_predictions.p%s from %s', kept_id, m.maintainer);
    update dbml._maintained k set target = coalesce(finish_maintained.target, k.target) where k.maintained_id = kept_id;
    return dbml_channel._rescore(kept_id, m.model_id);
end
$$;
comment on function dbml_channel.finish_maintained(bigint, regclass) is 'Score the rows that were filled in, and let nobody but dbml write them any more.';

create or replace function dbml_channel.fill_maintained(kept_id bigint, source regclass, columns text[], types text[])
returns void
language plpgsql volatile parallel unsafe security invoker
-- Invoker: the source is read as the caller.
as $$
begin
    execute format('insert into dbml_predictions.p%s (%s, part) select %s, %s from %s s', kept_id,
        (select string_agg('c' || i, ', ' order by i) from generate_series(1, cardinality(columns)) i),
        (select string_agg(format('s.%I::%s', c, t), ', ' order by i) from unnest(columns, types) with ordinality u(c, t, i)),
        case when (select c.relkind from pg_catalog.pg_class c where c.oid = source) = 'p' then 's.tableoid' else 'null' end, source);
end
$$;
comment on function dbml_channel.fill_maintained(bigint, regclass, text[], text[]) is 'Copy what is kept of each row of a source, as the caller.';

create or replace function dbml_channel.kept_columns(kept_id bigint, out columns text[], out bases text[], out keys integer, out source regclass)
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads a private table, for whom the predictions are kept.
as $$
begin
    select k.columns, array(select dbml_channel._base_type(t)::text from unnest(k.types) with ordinality u(t, o) order by o), k.keys, k.source
    into columns, bases, keys, source
    from dbml._maintained k where k.maintained_id = kept_id and k.maintainer = quote_ident(dbml_channel.caller())::regrole;
end
$$;
comment on function dbml_channel.kept_columns(bigint) is 'What is kept of a source''s rows; NULL for whom it is not kept.';

create or replace function dbml.maintain_predictions(model text, source text, target text, workspace text default null)
returns bigint
language plpgsql volatile parallel unsafe security invoker
-- Invoker: the source is read, its triggers and the target are made with the caller's rights.
as $$
declare
    table_ regclass;
    place text;
    kept_id bigint;
    k record;
    leaf regclass;
    changed text; key_changed text;
    is_plain boolean;
    follow text; follow_row text;
begin
    if model is null or source is null or btrim(source) = '' or target is null or btrim(target) = '' then
        raise exception 'model, source and target must be given, got %, % and %', coalesce(quote_literal(model), 'NULL'),
            coalesce(quote_literal(source), 'NULL'), coalesce(quote_literal(target), 'NULL') using errcode = 'ML009';
    end if;
    table_ := source::regclass;
    select string_agg(quote_ident(part), '.') into place from unnest(parse_ident(target)) part;
    if to_regclass(place) is not null then
        raise exception 'relation "%" already exists', target using errcode = 'duplicate_table',
            hint = 'the target is made by this call: give it another name';
    end if;
    kept_id := dbml_channel.begin_maintained(model, workspace, table_, place, current_user::text);
    k := dbml_channel.kept_columns(kept_id);
    -- The triggers come first: making them waits for who is writing, and lets nobody write until this transaction ends.
    select c.relkind = 'r' and not c.relispartition and not exists (select from pg_catalog.pg_inherits i where i.inhrelid = c.oid)
    into is_plain from pg_catalog.pg_class c where c.oid = table_;
    select string_agg(format('(old.%1$I%2$s) is distinct from (new.%1$I%2$s)', c, case when t in ('text', 'character varying', 'character') then ' collate "C"' else '' end), ' or ' order by i),
           string_agg(format('(old.%1$I%2$s) is distinct from (new.%1$I%2$s)', c, case when t in ('text', 'character varying', 'character') then ' collate "C"' else '' end), ' or ' order by i) filter (where i <= k.keys)
    into changed, key_changed from unnest(k.columns, k.bases) with ordinality u(c, t, i);
    follow := format('execute function dbml_channel.follow_source(%s, ', kept_id);
    follow_row := format('execute function dbml_predictions.follow_%1$s(%1$s, ', kept_id);
    if is_plain then
        execute format('create trigger dbml_%s_insert after insert on %s referencing new table as inserted for each statement %s insert_set)', kept_id, table_, follow);
        -- Never fires, and keeps the table from becoming a partition or a child, whose parent's writers would fire no trigger above.
        execute format('create trigger dbml_%s_guard after insert on %s referencing new table as inserted for each row when (false) %s guard)', kept_id, table_, follow);
    else
        execute format('create trigger dbml_%s_insert after insert on %s for each row %s insert)', kept_id, table_, follow_row);
    end if;
    -- In the order of their names: what a changed key leaves behind goes first.
    execute format('create trigger dbml_%s_key after update on %s for each row when (%s) %s delete)', kept_id, table_, key_changed, follow_row);
    execute format('create trigger dbml_%s_update after update on %s for each row when (%s) %s update)', kept_id, table_, changed, follow_row);
    execute format('create trigger dbml_%s_delete after delete on %s for each row %s delete)', kept_id, table_, follow_row);
    execute format('create trigger dbml_%s_truncate after truncate on %s for each statement %s truncate)', kept_id, table_, follow);
    for leaf in select t.relid from pg_catalog.pg_partition_tree(table_) t where t.isleaf and t.relid <> table_ loop
        execute format('create trigger dbml_%s_truncate after truncate on %s for each statement %s truncate_part)', kept_id, leaf, follow);
    end loop;
    perform dbml_channel.fill_maintained(kept_id, table_, k.columns, k.bases);
    execute format('create view %s as select %s, prediction, model_version from dbml_predictions.p%s', place,
        (select string_agg(format('c%s as %I', i, k.columns[i]), ', ' order by i) from generate_series(1, k.keys) i), kept_id);
    return dbml_channel.finish_maintained(kept_id, place::regclass);
end
$$;
comment on function dbml.maintain_predictions(text, text, text, text) is
'Keep predictions of a table''s rows true: target has its key, prediction and model_version; returns the number of rows.

What is written to source is scored in the writer''s transaction: inserts, updates, changed keys, deletes, TRUNCATE, COPY;
only the rows that changed. All of it is scored again when the alias of model moves, in the transaction that moves it: nobody
sees the one without the other, and writers wait meanwhile. model: ''name@alias'' follows the alias, ''name'' the latest version
that is compiled, ''name:3'' stays. A row that the model refuses has NULL.
source: a table with a primary key, partitioned or not, that you may read and make triggers on. target: a view, made by the call
and yours; grant on it what you like. It shows all rows of source, so where row-level security keeps some from you, you may
not. A model that is compiled is scored by PostgreSQL; else, and where a row is for the model itself, the worker is asked row by row.
Errors: ML020 no such model; ML009 source has no primary key, or is no table that lasts; ML021 a feature is no column; 42P07
target is there; 42501 no right to read source, to make triggers on it, or to predict.
Example: BEGIN; CREATE TABLE flowers AS SELECT * FROM demo.iris; ALTER TABLE flowers ADD PRIMARY KEY (flower);
    SELECT dbml.maintain_predictions(''demo-iris'', ''flowers'', ''flowers_scored''); ROLLBACK;';

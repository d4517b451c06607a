create or replace function dbml_channel._base_type(type regtype)
returns regtype
language plpgsql stable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    t record;
begin
    loop
        select p.typtype, p.typbasetype, p.typnamespace into t from pg_type p where p.oid = type;
        exit when t.typtype is distinct from 'd';
        type := t.typbasetype;
    end loop;
    return case when t.typtype = 'b' and t.typnamespace = 'pg_catalog'::regnamespace then type end;
end
$$;
comment on function dbml_channel._base_type(regtype) is
    'PostgreSQL''s own type that a type is, or a domain is of; NULL for types of others, whose casts and operators are others'' code.';

create or replace function dbml_channel._is_number(type regtype)
returns boolean
language sql immutable parallel safe security invoker
begin atomic
    select type in ('bool'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'float4'::regtype, 'float8'::regtype, 'numeric'::regtype);
end;
comment on function dbml_channel._is_number(regtype) is 'Whether a column of a type can be a number''s feature of a compiled model.';

create or replace function dbml_channel._is_text(type regtype)
returns boolean
language sql immutable parallel safe security invoker
begin atomic
    select type in ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype);
end;
comment on function dbml_channel._is_text(regtype) is 'Whether a column of a type can be a text feature of a compiled model.';

create or replace function dbml_channel._keep_statements(kept_id bigint, of_model bigint)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table; called by definers that have found the model for the caller.
as $$
declare
    m dbml._maintained;
    v record; e record;
    predicted text;
    features text[]; places integer[]; bases regtype[];
    is_array boolean := false;
    said text;
    kept constant text := format('dbml_predictions.p%s', kept_id);
    answered text; value text;
    n integer; inserts text; updates text; same_key text;
    compiled text[] := array_fill(null::text, array[4]);   -- the call over $1, over a row of those inserted, over what is kept, over new
    place integer; kind text; ways text[]; arguments text[];
    of_row text;   -- the form for single rows: a large set's form would be planned with each row, as long as it is
begin
    select * into m from dbml._maintained k where k.maintained_id = kept_id;
    select d.name::text as name, d.version, d.signature, w.name::text as workspace into v
    from dbml._models d join dbml._workspaces w using (workspace_id) where d.model_id = of_model;
    begin
        begin
            e := dbml_channel._choose_engine(of_model, m.model, 'sql', 'predict', 'set');
        exception when sqlstate 'ML027' then
            e := dbml_channel._choose_engine(of_model, m.model, 'sql', 'predict', 'row');   -- a walk over arrays: slow, but no hop
            is_array := true;
        end;
    exception when sqlstate 'ML027' then
        select 'python'::text as chosen, null::text as name, null::text[] as features, null::text[] as kinds, null::text as type into e;
    end;
    features := coalesce(e.features,
        (select array_agg(f.value ->> 'name' order by f.o) from jsonb_array_elements(
            case jsonb_typeof(v.signature -> 'features') when 'array' then v.signature -> 'features' end) with ordinality f(value, o)),
        m.columns[m.keys + 1 :]);   -- without names: every column that is not of the key, in their order
    places := dbml_channel.feature_places(features, m.columns);
    bases := array(select dbml_channel._base_type(t) from unnest(m.types) with ordinality u(t, o) order by o);
    if array_position(places, null) is not null then
        select string_agg(quote_ident(f), ', ' order by o) into said from unnest(features, places) with ordinality u(f, place_, o) where place_ is null;
        raise exception 'table % keeps no column % that model "%:%" needs', m.source_name, said, v.name, v.version using errcode = 'ML021',
            detail = jsonb_build_object('columns', m.columns, 'features', features, 'target', m.target_name),
            hint = format('columns must be numbers, or text that the model knew from the beginning: SELECT dbml.delete_maintained_predictions(%L)', m.target_name);
    elsif cardinality(features) <> coalesce(cardinality(e.kinds), cardinality(features)) then
        raise exception 'model "%:%" takes % features, table % has % columns beside its key', v.name, v.version, cardinality(e.kinds), m.source_name,
            cardinality(features) using errcode = 'ML009', detail = jsonb_build_object('columns', m.columns, 'target', m.target_name);
    end if;
    -- What a compiled function would read otherwise than the model does is for the model itself.
    if exists (select from unnest(places, e.kinds) u(place_, kind_)
               where not case kind_ when 'text' then dbml_channel._is_text(bases[place_]) else dbml_channel._is_number(bases[place_]) end) then
        e.name := null;
    end if;
    predicted := coalesce(e.type, dbml_channel.prediction_type(v.name || ':' || v.version, v.workspace));
    if m.prediction_type = '' then
        m.prediction_type := predicted;
    elsif predicted <> m.prediction_type then
        raise exception 'model "%:%" predicts %, and the predictions that "%" keeps are %', v.name, v.version, predicted, m.target_name, m.prediction_type
            using errcode = 'ML009', hint = format('SELECT dbml.delete_maintained_predictions(%L)', m.target_name);
    end if;
    n := cardinality(m.columns);
    if e.name is not null then
        select s.functions -> 'predict' ->> 'row' into of_row from dbml._certificates s where s.model_id = of_model and s.engine = 'sql';
        ways := array['($1).%I', 'g.c%s', 'c%s', 'new.%I'];
        for way in 1 .. 4 loop
            arguments := '{}';
            for i in 1 .. cardinality(places) loop
                place := places[i]; kind := e.kinds[i];
                value := case when way in (1, 4) then format(ways[way], m.columns[place]) || '::' || bases[place]::text else format(ways[way], place) end;
                arguments := arguments || case when kind = 'text' then value || '::text' when bases[place] = 'bool'::regtype then value || '::integer::float8'
                    else value || '::float8' end;
            end loop;
            compiled[way] := format(case when is_array or way in (1, 4) and of_row is not null then 'dbml_models.%I(array[%s]::float8[])' else 'dbml_models.%I(%s)' end,
                case when way in (1, 4) then coalesce(of_row, e.name) else e.name end, array_to_string(arguments, ', '));
        end loop;
    else
        compiled := array_fill('null::' || predicted, array[4]);
    end if;
    answered := case when predicted = 'double precision' then 'p > ''-Infinity'' and p < ''Infinity''' when predicted like '%[]' then 'p is not null and array_position(p, null) is null'
                     else 'p is not null' end;
    inserts := (select string_agg('c' || i, ', ' order by i) from generate_series(1, n) i) || ', part, prediction, model_version';
    updates := format('on conflict (%s) do update set %s', (select string_agg('c' || i, ', ' order by i) from generate_series(1, m.keys) i),
        (select string_agg(format('%1$s = excluded.%1$s', c), ', ' order by o) from unnest(
            array(select 'c' || i from generate_series(m.keys + 1, n) i) || array['part', 'prediction', 'model_version']) with ordinality u(c, o)));
    same_key := (select string_agg(format('c%s = ($1).%I::%s', i, m.columns[i], bases[i]), ' and ' order by i) from generate_series(1, m.keys) i);
    update dbml._maintained k set model_id = of_model, prediction_type = predicted, problem = null, statements = jsonb_build_object(
        'function', e.name, 'version', v.version,
        -- The types of what comes, asked of the values themselves: nothing is cast that is not of PostgreSQL's own types.
        'types', (select format('select array[%s]::oid[]', string_agg(format('pg_typeof(($1).%I)', c), ', ' order by o)) from unnest(m.columns) with ordinality u(c, o)),
        -- By column, not by (row).column: of a table with a dropped column PostgreSQL finds others there.
        'types_of_set', (select format('select array[%s]::oid[] from inserted i limit 1', string_agg(format('pg_typeof(i.%I)', c), ', ' order by o))
                         from unnest(m.columns) with ordinality u(c, o)),
        'score', format('select case when %s then p%s end from (select %s as p offset 0) g', answered,
                        case when predicted in ('double precision', 'double precision[]') then '' else '::text' end, compiled[1]),
        'write', format('insert into %s (%s) select %s, $2, %s, $6 %s', kept, inserts,
            (select string_agg(format('($1).%I::%s', m.columns[i], bases[i]), ', ' order by i) from generate_series(1, n) i),
            case predicted when 'double precision' then '$3' when 'double precision[]' then '$4' else '$5::' || predicted end, updates),
        'write_set', format('insert into %s (%s) select %s, null, case when %s then p end, case when %s then $1 end from (select g.*, %s as p from (select %s from inserted i offset 0) g offset 0) g %s',
            kept, inserts, (select string_agg('g.c' || i, ', ' order by i) from generate_series(1, n) i), answered, answered, compiled[2],
            (select string_agg(format('i.%I::%s as c%s', m.columns[i], bases[i], i), ', ' order by i) from generate_series(1, n) i), updates),
        'write_set_unscored', format('insert into %s (%s) select %s, null, null, null from inserted i %s',
            kept, inserts, (select string_agg(format('i.%I::%s', m.columns[i], bases[i]), ', ' order by i) from generate_series(1, n) i), updates),
        'delete', format('delete from %s where %s', kept, same_key),
        'rescore', format('update %s set prediction = %s, model_version = %s', kept, compiled[3], v.version),
        'unscore', format('update %s set prediction = null, model_version = null', kept),
        'unanswered', format('update %s set prediction = null, model_version = null where (%s) is not true', kept, regexp_replace(answered, '\mp\M', 'prediction', 'g')),
        'left', format('select k.ctid as place, row_to_json(r)::text as features from %s k cross join lateral (select %s) r where k.model_version is null', kept,
            (select string_agg(format('k.c%s as %I', place_, f), ', ' order by o) from unnest(features, places) with ordinality u(f, place_, o))),
        'score_kept', format('select case when %s then p%s end from (select %s as p from %s where ctid = $1 offset 0) g', answered,
                             case when predicted in ('double precision', 'double precision[]') then '' else '::text' end, compiled[3], kept),
        'settle', format('update %s set prediction = %s, model_version = $4 where ctid = $5', kept,
            case predicted when 'double precision' then '$1' when 'double precision[]' then '$2' else '$3::' || predicted end))
    where k.maintained_id = kept_id;
    perform dbml_channel._make_follower(kept_id, m.columns, m.types, bases, m.keys, predicted, of_model, v.version,
        case when e.name is not null then coalesce(of_row, e.name) end, case when e.name is not null then compiled[4] end, answered, updates);
end
$$;
comment on function dbml_channel._keep_statements(bigint, bigint) is
    'Let kept predictions be of a version of a model: the statements that score a row, a set, or all that is kept.';

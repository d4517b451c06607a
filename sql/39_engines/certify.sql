create or replace function dbml_channel._compare(
    name text, arguments text, result text, types text[], places integer[], wants text[], want_places integer[], is_array boolean,
    lines text[], ordinary integer, plain integer, scale double precision, tolerance double precision,
    out compared bigint, out left_out bigint, out ordinary_left bigint, out wrong bigint, out first_wrong jsonb,
    out max_absolute double precision, out max_relative double precision)
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
set jit = off
-- Definer: makes and drops a function beside the compiled one.
-- lines: array literals; places: of the inputs, in the order of the arguments; want_places: of the model's own answers.
as $$
declare
    n constant integer := cardinality(types);
    is_float constant boolean := wants[1] = 'float8';
    inputs constant text := (select string_agg('p.i' || i, ', ' order by i) from generate_series(1, n) i);
    differs text;
    direct text; trying text;
begin
    -- Where PostgreSQL raises, at an overflow say, the row is left to the model: NULL says the same.
    execute format('create function dbml_models.%I(%s) returns %s language plpgsql as %L', 'try_' || name, arguments, result,
        format('begin return dbml_models.%I(%s); exception when data_exception then return null; end', name,
               case when arguments = 'f double precision[]' then 'f'
                    else (select string_agg('c' || i, ', ' order by i) from generate_series(1, n) i) end));
    -- One answer is compared, or each of an array's; the largest difference counts.
    differs := case when is_float then (
        select format('greatest(%s)', string_agg(format('abs(got[%1$s] - w%1$s)', k), ', ' order by k)) from generate_subscripts(wants, 1) k) end;
    direct := format('dbml_models.%I(%s)', name, case when arguments = 'f double precision[]' then 'array[' || inputs || ']::float8[]' else inputs end);
    trying := replace(direct, quote_ident(name), quote_ident('try_' || name));
    for attempt in 1 .. 2 loop
        -- Trying costs a subtransaction a row: at first only where it is likely to be needed.
        begin
            execute format($q$
                with answered as materialized (
                    select p.*, %1$s as got from unnest(%2$s) with ordinality as p(%3$s, ordinal)),
                judged as materialized (
                    select a.*, got is null or got[1] is null or not (%4$s) as leaves, w1 is null as refuses from answered a),
                measured as materialized (
                    select j.*, case when not leaves and not refuses then %5$s end as apart, case when not leaves and not refuses then %6$s end as size from judged j),
                marked as materialized (
                    select m.*, not leaves and (refuses or %7$s) as is_wrong from measured m)
                select count(*) filter (where not leaves), count(*) filter (where leaves), count(*) filter (where leaves and ordinal <= $2),
                       count(*) filter (where is_wrong),
                       (select to_jsonb(w) - '{is_wrong,leaves,refuses,ordinal,size}'::text[] from marked w where is_wrong limit 1),
                       max(apart), max(case when size > 0 then apart / size end)
                from marked $q$,
                format(case when is_array then '%s' else 'array[%s]' end, format('case when ordinal <= $5 then %s else %s end', direct, trying)),
                (select string_agg(format('$1[%s]::%s[]', place, type_), ', ' order by o)
                 from unnest(places || want_places, types || wants) with ordinality u(place, type_, o)),
                (select string_agg(name_, ', ' order by o) from unnest(
                    array(select 'i' || i from generate_series(1, n) i) || array(select 'w' || k from generate_subscripts(wants, 1) k)) with ordinality u(name_, o)),
                case when is_float then (select string_agg(format('got[%1$s] > ''-Infinity'' and got[%1$s] < ''Infinity''', k), ' and ')
                                         from generate_subscripts(wants, 1) k) else 'true' end,
                coalesce(differs, '0::float8'),
                case when is_float then (select format('greatest(%s, %s)', string_agg(format('abs(w%s)', k), ', '), '$3') from generate_subscripts(wants, 1) k)
                     else '1::float8' end,
                case when is_float then 'apart > $4 * size' else 'got[1] is distinct from w1' end)
            into compared, left_out, ordinary_left, wrong, first_wrong, max_absolute, max_relative
            using lines, ordinary, scale, tolerance, case attempt when 1 then plain else 0 end;
            exit;
        exception when data_exception then
            if attempt = 2 then
                raise;
            end if;
        end;
    end loop;
    execute format('drop function dbml_models.%I', 'try_' || name);
end
$$;
comment on function dbml_channel._compare(text, text, text, text[], integer[], text[], integer[], boolean, text[], integer, integer, double precision, double precision) is
    'Compare a compiled function''s answers with the model''s own on the probes.';

create or replace function dbml_channel._certify(model_id bigint, head jsonb, lines text[])
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: makes the functions of a model, and keeps what was proven of them.
as $$
declare
    kinds constant text[] := array(select k.value from jsonb_array_elements_text(head -> 'kinds') with ordinality k(value, o) order by o);
    n constant integer := cardinality(kinds);
    types constant text[] := array(select case k when 'text' then 'text' else 'float8' end from unnest(kinds) with ordinality u(k, o) order by o);
    n_functions constant integer := jsonb_array_length(head -> 'functions');
    tolerance constant double precision := (head ->> 'tolerance')::double precision;
    offsets jsonb := '{}';   -- method -> where its answers begin
    made jsonb := '{}';
    each record; found record;
    name text; arguments text; result text; wants text[];
    place integer := n_functions + n;
    compared bigint := 0; left_out bigint := 0; absolute double precision := 0; relative double precision := 0;
    failure text;
begin
    for each in select a.key as method, (a.value ->> 'outputs')::integer as outputs from jsonb_array_elements_text(head -> 'methods') with ordinality m(method, o)
                join jsonb_each(head -> 'answers') a on a.key = m.method order by m.o loop
        offsets := offsets || jsonb_build_object(each.method, place);
        place := place + each.outputs;
    end loop;
    if cardinality(lines) <> place then
        raise exception 'the worker sent % lines, not %', cardinality(lines), place using errcode = 'ML013';
    end if;
    for each in select f.o::integer as o, f.value ->> 'method' as method, f.value ->> 'form' as form, f.value ->> 'language' as kind,
                       head -> 'answers' -> (f.value ->> 'method') as answers
                from jsonb_array_elements(head -> 'functions') with ordinality f(value, o) order by f.o loop
        name := format('m%s_%s_%s', model_id, each.method, each.form);
        arguments := case each.form when 'row' then 'f double precision[]'
            else (select string_agg(format('c%s %s', i, t), ', ' order by i) from unnest(types) with ordinality u(t, i)) end;
        result := case each.method when 'predict' then head ->> 'type' else 'double precision[]' end;
        if result not in ('double precision', 'bigint', 'boolean', 'text', 'double precision[]') then
            raise exception 'a compiled model cannot give %', result using errcode = 'ML027';
        end if;
        perform dbml_channel._make_function(name, arguments, result, each.kind, replace(lines[each.o], E'\x1f', E'\n'));
        wants := array_fill(case result when 'double precision[]' then 'float8' when 'double precision' then 'float8' else result end,
                            array[(each.answers ->> 'outputs')::integer]);
        found := dbml_channel._compare(name, arguments, result, types,
            array(select n_functions + i from generate_series(1, n) i), wants,
            array(select (offsets ->> each.method)::integer + k from generate_subscripts(wants, 1) k), result like '%[]',
            lines, (head ->> 'ordinary')::integer, (head ->> 'plain')::integer, (each.answers ->> 'scale')::double precision, tolerance);
        made := jsonb_set(made || jsonb_build_object(each.method, coalesce(made -> each.method, '{}')), array[each.method, each.form], to_jsonb(name));
        if found.wrong > 0 then
            failure := format('%s of %s rows differ from the model (%s, form %s), the first: %s', found.wrong, found.compared, each.method, each.form, found.first_wrong);
            exit;
        elsif found.compared = 0 or found.ordinary_left * 2 > (head ->> 'ordinary')::integer then
            failure := format('it would leave %s of %s ordinary rows to the model', found.ordinary_left, head ->> 'ordinary');
            exit;
        end if;
        compared := compared + found.compared;
        left_out := left_out + found.left_out;
        absolute := greatest(absolute, found.max_absolute);
        relative := greatest(relative, found.max_relative);
    end loop;
    if failure is not null then
        for name in select f.value from jsonb_each(made) m, jsonb_each_text(m.value) f loop
            execute format('drop function dbml_models.%I', name);
        end loop;
        made := '{}';
    end if;
    perform dbml_channel._keep_certificate(model_id, case when failure is null then 'certified' else 'failed' end, failure,
        head || jsonb_build_object('made', made, 'compared', compared, 'left', left_out, 'absolute', absolute, 'relative', relative));
end
$$;
comment on function dbml_channel._certify(bigint, jsonb, text[]) is
    'Make a compiled model''s functions, compare them with the model''s own answers, and keep the certificate or why there is none.';

create or replace function dbml_channel._keep_certificate(model_id bigint, status text, reason text, about jsonb)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes a private table.
as $$
begin
    delete from dbml._certificates c where (c.model_id, c.engine) = (_keep_certificate.model_id, coalesce(about ->> 'engine', 'sql'))
        and not coalesce(about ? 'made', false);   -- with the functions of a former one
    insert into dbml._certificates as c (model_id, engine, status, reason, functions, refused, features, kinds, prediction_type, rows_compared,
        rows_left, thresholds, thresholds_tried, max_absolute_error, max_relative_error, tolerance, server_version, dbml_version,
        packages, seconds, pair, maker)
    values (_keep_certificate.model_id, coalesce(about ->> 'engine', 'sql'), _keep_certificate.status, _keep_certificate.reason, coalesce(about -> 'made', '{}'), coalesce(about -> 'refusals', '{}'),
        case when jsonb_typeof(about -> 'features') = 'array' then array(select f.value from jsonb_array_elements_text(about -> 'features') with ordinality f(value, o) order by o) end,
        case when jsonb_typeof(about -> 'kinds') = 'array' then array(select k.value from jsonb_array_elements_text(about -> 'kinds') with ordinality k(value, o) order by o) end,
        about ->> 'type', (about ->> 'compared')::bigint, (about ->> 'left')::bigint, (about ->> 'thresholds')::bigint,
        (about ->> 'thresholds_tried')::bigint, (about ->> 'absolute')::double precision, (about ->> 'relative')::double precision,
        (about ->> 'tolerance')::double precision, current_setting('server_version_num')::integer, about ->> 'dbml_version',
        coalesce(about -> 'packages', '{}'), (about ->> 'seconds')::double precision, decode(about ->> 'pair', 'hex'), about ->> 'maker')
    on conflict on constraint _certificates_pkey do update set
        status = excluded.status, reason = excluded.reason, functions = excluded.functions, refused = excluded.refused, features = excluded.features,
        kinds = excluded.kinds, prediction_type = excluded.prediction_type, rows_compared = excluded.rows_compared, rows_left = excluded.rows_left,
        thresholds = excluded.thresholds, thresholds_tried = excluded.thresholds_tried, max_absolute_error = excluded.max_absolute_error,
        max_relative_error = excluded.max_relative_error, tolerance = excluded.tolerance, server_version = excluded.server_version,
        dbml_version = excluded.dbml_version, packages = excluded.packages, seconds = excluded.seconds, certified_at = excluded.certified_at,
        pair = excluded.pair, maker = excluded.maker;
end
$$;
comment on function dbml_channel._keep_certificate(bigint, text, text, jsonb) is 'Keep what was proven of a model''s compiled form, or why there is none.';

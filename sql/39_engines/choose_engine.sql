create or replace function dbml_channel._is_bound(workspace dbml._workspaces, format text)
returns boolean
language sql immutable parallel safe security invoker
begin atomic
    select workspace.model_types is not null or coalesce(format <> all (workspace.model_formats), false);
end;
comment on function dbml_channel._is_bound(dbml._workspaces, text) is
    'Whether a workspace''s policy must be asked before a model is used: it may have been registered before there was one.';

create or replace function dbml_channel._choose_engine(
    model_id bigint, model text, engine text, method text, form text,
    out chosen text, out why text, out name text, out features text[], out kinds text[], out type text, out pair bytea)
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables; called by definers that have found the model for the caller.
as $$
declare
    c record;
    o dbml._certificates;
    wanted text;
begin
    if engine is not null and engine not in ('python', 'sql', 'onnx') then
        raise exception 'engine must be ''python'', ''sql'' or ''onnx'', got %', quote_literal(engine) using errcode = 'ML009';
    end if;
    select m.engine as setting, m.format, dbml_channel._is_bound(w, m.format) as bound, s.* into c
    from dbml._models m join dbml._workspaces w using (workspace_id) left join dbml._certificates s on s.model_id = m.model_id and s.engine = 'sql'
    where m.model_id = _choose_engine.model_id;
    wanted := coalesce(_choose_engine.engine, c.setting);
    chosen := 'python';
    if c.format = 'onnx' then
        chosen := 'onnx';
        why := 'it is an ONNX file';
        if _choose_engine.engine <> 'onnx' then
            raise exception 'model "%" cannot be scored by engine %: %', model, _choose_engine.engine, why using errcode = 'ML027',
                detail = jsonb_build_object('model', model, 'engine', _choose_engine.engine, 'why', why),
                hint = format('SELECT * FROM dbml.explain_predict(%L)', model);
        end if;
        return;
    elsif c.bound then
        why := 'the workspace''s policy is asked at every load';
    elsif c.status is null then
        why := 'it was never compiled';
    elsif c.status = 'certified' and c.server_version <> current_setting('server_version_num')::integer then
        why := format('it was certified on server version %s, this is %s', c.server_version, current_setting('server_version_num'));
    elsif c.status <> 'certified' then
        why := coalesce(c.reason, c.status);
    elsif c.functions -> method ->> form is null or c.refused ? form and wanted is distinct from 'sql' then
        why := coalesce(c.refused ->> form, format('it has no %s in SQL', method));
    else
        name := c.functions -> method ->> form;
        features := c.features; kinds := c.kinds; type := c.prediction_type;
        if coalesce(wanted, 'sql') = 'sql' then
            chosen := 'sql';
        end if;
    end if;
    if chosen = 'python' and coalesce(wanted, 'onnx') = 'onnx' then
        select s.* into o from dbml._certificates s where (s.model_id, s.engine) = (_choose_engine.model_id, 'onnx');
        if o.status = 'certified' and not c.bound and (wanted is not null or not o.refused ? form) then
            chosen := 'onnx'; pair := o.pair; type := o.prediction_type;
        elsif wanted is not null then
            why := case when c.bound then 'the workspace''s policy is asked at every load'
                   else coalesce(o.reason, 'it was never converted: dbml.compile_model(model, engine => ''onnx'')') end;
        end if;
    end if;
    if wanted in ('sql', 'onnx') and chosen = 'python' then
        raise exception 'model "%" cannot be scored by engine %: %', model, wanted, why using errcode = 'ML027',
            detail = jsonb_build_object('model', model, 'engine', wanted, 'why', why),
            hint = format('SELECT * FROM dbml.explain_predict(%L)', model);
    end if;
end
$$;
comment on function dbml_channel._choose_engine(bigint, text, text, text, text) is
    'The engine of a call: the one that is asked for, by argument or setting, else sql where it is certified, else onnx, else python.';

create or replace function dbml_channel._onnx_form(model_id bigint, engine text, form text)
returns bytea
language sql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables; called by definers that have found the model for the caller.
begin atomic
    select c.pair
    from dbml._certificates c join dbml._models m using (model_id) join dbml._workspaces w using (workspace_id)
    where (c.model_id, c.engine, c.status) = (_onnx_form.model_id, 'onnx', 'certified') and not dbml_channel._is_bound(w, m.format)
      and case coalesce(_onnx_form.engine, m.engine) when 'onnx' then true when 'python' then false when 'sql' then false
          else not c.refused ? form end;
end;
comment on function dbml_channel._onnx_form(bigint, text, text) is
    'The digest of a model with its ONNX form, where that scores the rows that SQL does not; else NULL.';

create or replace function dbml_channel.score_array(
    model text, features double precision[], method text, engine text, out number double precision, out numbers double precision[])
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
-- Definer: a model is scored by those who may not see its functions.  NULL: the row is for the model itself.
as $$
declare
    e record;
    type text; name text;
begin
    if engine is null and model !~ '[@:]' then
        -- The latest version by its name, as most ask for it, in one look; whatever is not found here, the others explain.
        select m.workspace_id, m.name::text as of_model, m.engine, c.status, c.server_version, c.functions, c.prediction_type into e
        from dbml._workspaces w
        join lateral (select v.model_id, v.workspace_id, v.name, v.engine, v.format from dbml._models v
                      where v.workspace_id = w.workspace_id and v.name = score_array.model order by v.version desc limit 1) m on true
        join dbml._certificates c on c.model_id = m.model_id and c.engine = 'sql'
        where w.name = coalesce(nullif(current_setting('dbml.workspace', true), ''), 'default')
          and not dbml_channel._is_bound(w, m.format);
        if e.engine is null then
            if e.status is distinct from 'certified' or e.server_version <> current_setting('server_version_num')::integer
               or not dbml_channel.may_use_model(e.workspace_id, e.of_model, 'predict') then
                return;
            end if;
            name := e.functions -> method ->> 'row';
            type := e.prediction_type;
        end if;
    end if;
    if name is null then
        e := dbml_channel._choose_engine((dbml_channel.find_model(model, null, 'predict')).model_id, model, engine, method, 'row');
        if e.chosen = 'sql' then
            name := e.name;
            type := e.type;
        end if;
    end if;
    if name is null then
        return;
    elsif method = 'predict_proba' then
        execute 'select dbml_models.' || name || '($1)' into numbers using features;
    elsif type in ('double precision', 'bigint', 'boolean') then
        execute 'select dbml_models.' || name || case type when 'double precision' then '($1)' when 'bigint' then '($1)::float8' else '($1)::integer' end
        into number using features;
    end if;
exception when data_exception then
    return;   -- an overflow, say: the model answers inf where PostgreSQL raises
end
$$;
comment on function dbml_channel.score_array(text, double precision[], text, text) is
    'Score one row of numbers by a compiled model: NULL where there is none, or where the model itself must answer.';

create or replace function dbml_channel.feature_places(features text[], columns text[])
returns integer[]
language sql immutable parallel safe security invoker
begin atomic
    -- LightGBM writes an underscore for each space in a name, and forgets how the name was (dbml/features.py says the same).
    select array_agg(coalesce(array_position(columns, f),
                              case when cardinality(array_positions(plain, f)) = 1 then array_position(plain, f) end) order by o)
    from unnest(features) with ordinality u(f, o)
    cross join (select array_agg(replace(c, ' ', '_') order by i) from unnest(columns) with ordinality v(c, i)) w(plain);
end;
comment on function dbml_channel.feature_places(text[], text[]) is
    'The place of each feature among columns: by its name, or the name that has spaces for its underscores; NULL where it is not there.';

create or replace function dbml_channel.score_record(model text, features jsonb, engine text)
returns jsonb
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: as score_array.
as $$
declare
    lent record;
    e record;
    names text[]; keys text[];
    numbers double precision[]; texts text[];
    fits boolean;
    answer jsonb; value double precision;
begin
    lent := dbml_channel.find_model(model, null, 'predict');
    e := dbml_channel._choose_engine(lent.model_id, model, engine, 'predict', 'set');
    if e.chosen <> 'sql' then
        return null;
    end if;
    names := coalesce(e.features, array(select k.key from jsonb_each(features) with ordinality k(key, value, o) order by k.o));
    if cardinality(names) <> cardinality(e.kinds) then
        return null;
    elsif not features ?& names then
        keys := array(select jsonb_object_keys(features));
        names := array(select keys[place] from unnest(dbml_channel.feature_places(names, keys)) with ordinality u(place, o) order by o);
    end if;
    select array_agg(case when c.kind <> 'float' or c.of_type = 'null' then null when c.of_type = 'boolean' then c.said::boolean::integer
                     else c.said::double precision end order by c.o),
           array_agg(case when c.kind = 'text' then c.said end order by c.o),
           bool_and(coalesce(c.of_type = 'null' or c.of_type = case c.kind when 'text' then 'string' else 'number' end
                    -- to_jsonb writes the floats that JSON lacks as text.
                    or c.kind = 'float' and c.of_type = 'string' and c.said in ('NaN', 'Infinity', '-Infinity')
                    or c.kind = 'float' and c.of_type = 'boolean', false)
                    and not (c.kind = 'text' and c.said in ('NaN', 'Infinity', '-Infinity')))
    into numbers, texts, fits
    from (select w.kind, w.o, jsonb_typeof(features -> w.n) as of_type, features ->> w.n as said
          from unnest(names, e.kinds) with ordinality w(n, kind, o) where features ? w.n
          union all
          select null, w.o, null, null from unnest(names) with ordinality w(n, o) where w.n is null) c;
    if not fits then
        return null;   -- the model says what it makes of them, or what is missing
    end if;
    execute format('select to_jsonb(dbml_models.%I(%s))', e.name,
        (select string_agg(format('$%s[%s]', case kind when 'text' then 2 else 1 end, o), ', ' order by o)
         from unnest(e.kinds) with ordinality u(kind, o)))
    into answer using numbers, texts;
    if e.type = 'double precision' and answer is not null then
        if jsonb_typeof(answer) <> 'number' then
            return null;
        end if;
        -- As Python writes a float: 5.0, not 5.
        value := answer::text::double precision;
        if value = trunc(value) and abs(value) < 1e16 then
            answer := (value::bigint::text || '.0')::jsonb;
        end if;
    elsif e.type not in ('bigint', 'boolean', 'text') then
        return null;
    end if;
    return answer;
exception when data_exception then
    return null;
end
$$;
comment on function dbml_channel.score_record(text, jsonb, text) is
    'Score one record by a compiled model: NULL where there is none, or where the model itself must answer.';

create or replace function dbml_channel.score_call(
    model text, engine text, names text[], types text[], kinds text[],
    out expression text, out type text, out version text, out ask text)
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: as score_array.  The expression is over columns c1, c2 and so on, and runs as the caller, who must be able to execute it.
-- version: what the model's name means now, for the whole of the call.  ask: the row's answer by the model itself, as text.
as $$
declare
    lent record;
    e record;
    features text[];
    is_array boolean := false;
    places integer[];
begin
    lent := dbml_channel.find_model(model, null, 'predict');
    version := lent.name || ':' || lent.version;
    begin
        e := dbml_channel._choose_engine(lent.model_id, model, engine, 'predict', 'set');
    exception when sqlstate 'ML027' then
        e := dbml_channel._choose_engine(lent.model_id, model, engine, 'predict', 'row');   -- asked for by name, it may be slow
        is_array := true;
    end;
    if e.chosen <> 'sql' then
        type := case e.chosen when 'onnx' then e.type end;
        return;
    end if;
    features := coalesce(e.features, names);
    places := dbml_channel.feature_places(features, names);
    if cardinality(features) <> cardinality(e.kinds) or array_position(places, null) is not null
       or exists (select from unnest(places) place where cardinality(array_positions(names, names[place])) > 1)
       or exists (select from unnest(places, e.kinds) u(place, kind)
                  where u.kind = 'text' and (score_call.kinds[u.place] <> 'text' or score_call.types[u.place] in ('"char"', 'name'))
                     or u.kind = 'float' and score_call.kinds[u.place] not in ('float8', 'int2', 'int4', 'int8', 'bool')) then
        if engine = 'sql' then
            raise exception 'the query''s columns do not fit model "%" in SQL', model using errcode = 'ML027',
                detail = jsonb_build_object('features', features, 'columns', names, 'types', types),
                hint = 'engine => ''python'' says more, and converts more types';
        end if;
        return;
    end if;
    if not has_schema_privilege(dbml_channel.caller(), 'dbml_models', 'usage')
       or not has_function_privilege(dbml_channel.caller(), (select p.oid from pg_proc p
              where p.pronamespace = 'dbml_models'::regnamespace and p.proname = e.name), 'execute') then
        if engine = 'sql' then
            raise insufficient_privilege using message = format('role %s may not execute dbml_models.%s', dbml_channel.caller(), e.name),
                hint = 'the owner of the workspace grants it with the model: dbml.grant_model';
        end if;
        return;
    end if;
    type := e.type;
    select string_agg(case u.kind when 'text' then format('c%s::text', place)
                           else format(case when score_call.types[place] = 'double precision' then 'c%s' when score_call.kinds[place] = 'bool' then 'c%s::integer::float8'
                                       else 'c%s::float8' end, place) end, ', ' order by o)
    into expression from unnest(places, e.kinds) with ordinality u(place, kind, o);
    ask := format('dbml_channel.ask_model(%L, (select to_json(r)::text from (select %s) r))', version,
        (select string_agg(format('scored.c%s as %I', place, f), ', ' order by o) from unnest(places, features) with ordinality u(place, f, o)));
    expression := format(case when is_array then 'dbml_models.%I(array[%s]::float8[])' else 'dbml_models.%I(%s)' end, e.name, expression);
end
$$;
comment on function dbml_channel.score_call(text, text, text[], text[], text[]) is
    'The call of a compiled model over a query''s columns: NULL where another engine must score them.';

create or replace function dbml_channel.scored_value(type text, prediction text, ask text)
returns text
language sql immutable parallel safe security invoker
begin atomic
    select format('(case when %s then scored.prediction else %s::%s end)%s',
        case when type = 'double precision' then 'scored.prediction > ''-Infinity'' and scored.prediction < ''Infinity'''
             else 'scored.prediction is not null' end,
        ask, type, case when prediction = type then '' else '::' || prediction end);
end;
comment on function dbml_channel.scored_value(text, text, text) is
    'The prediction of a row that SQL scores, by the model itself where it must, in the type that is wanted.';

create or replace function dbml_channel.scored_rows(query text, expression text, types text[], given text)
returns text
language sql immutable parallel safe security invoker
begin atomic
    -- given: what is made of the columns c1, c2 and so on, and prediction of scored.  The fences (offset '0', a constant
    -- already as it is parsed: of 0 the planner thinks that it might limit, and lets no worker compute it) keep the planner from
    -- computing a column, or the prediction, as often as it is named.
    select format(E'select %s from (select q.*, %s as prediction from (select * from (%s\n) q(%s) offset ''0'') q offset ''0'') scored',
        given, expression, dbml_channel.plain(query), string_agg('c' || i, ', ' order by i))
    from generate_series(1, cardinality(types)) i;
end;
comment on function dbml_channel.scored_rows(text, text, text[], text) is 'The query that scores a query''s rows by a compiled model.';

create or replace function dbml_channel.scoring_alone(alone boolean)
returns text
language plpgsql volatile parallel unsafe security invoker
as $$
declare
    former constant text := current_setting('max_parallel_workers_per_gather');
begin
    perform set_config('dbml.asked', '', true);
    if alone then
        perform set_config('max_parallel_workers_per_gather', '0', true);
    end if;
    return former;
end
$$;
comment on function dbml_channel.scoring_alone(boolean) is
    'Begin to count the rows that are for the model itself, without parallel workers where it must be; returns what was set.';

create or replace function dbml_channel.run_scored(query text, alone boolean)
returns setof record
language plpgsql volatile parallel unsafe security invoker
set jit = off
-- Compiling the expressions of large models takes longer than they run (docs/decisions/0011).
as $$
declare
    former constant text := dbml_channel.scoring_alone(alone);
begin
    return query execute query;
    perform set_config('max_parallel_workers_per_gather', former, true);
end
$$;
comment on function dbml_channel.run_scored(text, boolean) is 'Run a query that scores by a compiled model: all its rows, or an error and none.';

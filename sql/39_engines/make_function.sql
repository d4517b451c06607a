create or replace function dbml_channel._is_arithmetic(body text)
returns boolean
language sql immutable parallel safe security invoker
begin atomic
    -- The text comes from a process that has unpickled the model, so it may be anybody's.  What passes is made of these
    -- words and marks alone, in any order: there is no name in it that reads a table, calls a function of anyone's or ends
    -- the body.  A backslash, a dollar and a double quote are not among them.  What joins strings passes in one statement
    -- alone, whose strings are all there: nothing grows.
    select body ~ replace(replace('^(?:[[:space:]()\[\],;=<>*/+.:-]|''(?:[^''\\]|'''')*''|[0-9]+(?![a-z_0-9])'
        || '|\m(?:case|when|then|else|end|and|or|not|is|in|null|true|false|array|declare|begin|if|for|while|loop|return'
        || '|float8|float4|bigint|int|text|varbit|boolean|exp|ln|log10|sqrt|abs|tanh|power|floor|greatest|least|get_bit'
        || '|array_length|array_lower|c[0-9]{1,4}|v[0-9]{1,7}|f|b|n|t)\M'
        || '|\mb := (?:(?: \|\| )?substring\(''[01]+''::varbit, [0-9]+ - (?:RANK|case when X < ''NaN''::float8 then RANK'
                   || ' else [0-9]+ end), [0-9]+\))+;)*$',
        'RANK', 'width_bucket\(X, ''[^''\\]*''::float8\[\]\)'), 'X', '(?:f\[[0-9]+\]|[cv][0-9]+|''[^''\\]*''::float8)');
end;
comment on function dbml_channel._is_arithmetic(text) is
    'Whether the body of a compiled model holds nothing but arithmetic, conditions and loops.';

create or replace function dbml_channel._make_function(name text, arguments text, result text, kind text, body text)
returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
-- Definer: makes functions in the owner's schema, of text that has been checked to be arithmetic.
as $$
begin
    if not dbml_channel._is_arithmetic(body) or kind = 'sql' and body ~ ';' or kind not in ('sql', 'plpgsql') then
        raise exception 'the compiled model holds more than arithmetic' using errcode = 'ML027',
            detail = jsonb_build_object('function', name);
    end if;
    -- Not "if exists", which says so to whoever registers a model.
    if exists (select from pg_proc p where p.pronamespace = 'dbml_models'::regnamespace and p.proname = _make_function.name) then
        execute format('drop function dbml_models.%I', name);
    end if;
    -- The cost, in operators, is what tells the planner that parallel workers are worth their start.
    execute format('create function dbml_models.%I(%s) returns %s immutable parallel safe cost %s language %s %s', name, arguments, result,
        greatest(100, octet_length(body) / 250), kind, case kind when 'sql' then 'return ' || body else 'as ' || quote_literal(body) end);
    execute format('revoke all on function dbml_models.%I from public', name);
end
$$;
comment on function dbml_channel._make_function(text, text, text, text, text) is
    'Make one function of a compiled model, after its text has been checked.';

create or replace function dbml_channel._drop_compiled()
returns trigger
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: drops what the owner has made; a version may go by its workspace too.
as $$
declare
    name text;
begin
    for name in select f.value from jsonb_each(old.functions) m, jsonb_each_text(m.value) f loop
        execute format('drop function if exists dbml_models.%I', name);
    end loop;
    return null;
end
$$;
comment on function dbml_channel._drop_compiled() is 'Drop a version''s functions with its certificate.';
create or replace trigger functions_go_too after delete on dbml._certificates
    for each row execute function dbml_channel._drop_compiled();

create or replace function dbml_channel._outdate_certificates()
returns trigger
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: the worker's login may tell its packages, and writes no certificate.
as $$
begin
    update dbml._certificates c set status = 'stale', reason = format('it was certified with %s, the worker now has %s', c.packages, new.packages)
    from dbml._models m
    where m.model_id = c.model_id and m.environment_id is null and c.status = 'certified' and c.packages <> new.packages;
    return null;
end
$$;
comment on function dbml_channel._outdate_certificates() is
    'Mark certificates as stale that were made with other packages than the worker''s; a locked environment keeps its own.';
create or replace trigger packages_changed after update of packages on dbml._worker
    for each row when (new.packages is not null) execute function dbml_channel._outdate_certificates();

create or replace function dbml_channel._outdate_by_policy()
returns trigger
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables for whoever may set the policy.
as $$
begin
    update dbml._certificates c set status = 'stale', reason = 'the workspace''s policy has changed since'
    from dbml._models m
    where m.model_id = c.model_id and m.workspace_id = new.workspace_id and c.status = 'certified';
    return null;
end
$$;
comment on function dbml_channel._outdate_by_policy() is
    'Mark certificates as stale where a policy changes: compiling loads the model, and so asks the new one.';
create or replace trigger policy_changed after update of model_formats, model_types on dbml._workspaces
    for each row when ((old.model_formats, old.model_types) is distinct from (new.model_formats, new.model_types))
    execute function dbml_channel._outdate_by_policy();

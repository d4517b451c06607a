create or replace function dbml.lineage(name text, workspace text default null)
returns table (direction text, depth integer, from_kind text, "from" text, relation text, to_kind text, "to" text, at timestamptz)
language plpgsql stable parallel restricted security invoker
-- Invoker: shows what the views show to the caller.
as $$
declare
    home constant text := (dbml_channel.find_workspace(workspace, 'read')).name;
    start record;
begin
    start := dbml_channel.lineage_start(lineage.name, home);
    return query
        with recursive edges as materialized (
            select * from dbml_channel.lineage_edges(home)
        ), up as (
            select 1 as depth, e.* from edges e where (e.to_kind, e."to") = (start.kind, start.called)
            union
            select up.depth + 1, e.* from up join edges e on (e.to_kind, e."to") = (up.from_kind, up."from") where up.depth < 50
        ), down as (
            select 1 as depth, e.* from edges e where (e.from_kind, e."from") = (start.kind, start.called)
            union
            select down.depth + 1, e.* from down join edges e on (e.from_kind, e."from") = (down.to_kind, down."to") where down.depth < 50
        )
        select 'upstream', min(u.depth), u.from_kind, u."from", u.relation, u.to_kind, u."to", u.at from up u
        group by u.from_kind, u."from", u.relation, u.to_kind, u."to", u.at
        union all
        select 'downstream', min(d.depth), d.from_kind, d."from", d.relation, d.to_kind, d."to", d.at from down d
        group by d.from_kind, d."from", d.relation, d.to_kind, d."to", d.at
        order by 1 desc, 2, 8, 3, 4, 6, 7;
end
$$;
comment on function dbml.lineage(text, text) is
'Where something comes from and what was made of it: a row for each step, from something, by a relation, to something.

name is a model (''name'' is its latest version, ''name:3'', ''name@alias''), a dataset, a table, an environment, or the
id of a run; where several have one name, say which: ''model:iris'', ''dataset:iris'', ''table:public.iris'', ''environment:iris''.
Upstream of a model are the run that registered it, that run''s script, environment, the tables that its input queries
read, the datasets, and the models that it loaded, and theirs in turn. Downstream of a table or a dataset are the runs that
read it, the models that they registered and the datasets that they wrote. Tables are those that a query reads in the end, behind views.
Errors: ML055 there is nothing of that name; ML050 no such workspace.
Example: SELECT l.direction, l."from", l.relation, l."to" FROM dbml.lineage(''demo-diabetes'') l;';

create or replace function dbml_channel.lineage_start(name text, workspace text, out kind text, out called text)
language plpgsql stable parallel restricted security invoker
as $$
declare
    said constant text := substring(lineage_start.name from '^(model|dataset|table|environment|run):');
    plain constant text := case when said is null then lineage_start.name else substr(lineage_start.name, length(said) + 2) end;
    base constant text := regexp_replace(plain, '[:@].*$', '');
    mark constant text := substr(plain, length(base) + 1);
    relation regclass;
begin
    if coalesce(said, 'run') = 'run' and plain ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        select 'run', r.run_id::text into kind, called from dbml.runs r where r.run_id = plain::uuid;
    end if;
    if kind is null and coalesce(said, 'model') = 'model' then
        select 'model', m.name || ':' || m.version into kind, called from dbml.models m
        where m.workspace = lineage_start.workspace and m.name = base
          and (mark = '' or mark = ':' || m.version or substr(mark, 1, 1) = '@' and substr(mark, 2) = any (m.aliases))
        order by m.version desc limit 1;
    end if;
    if kind is null and coalesce(said, 'dataset') = 'dataset' then
        select 'dataset', d.name || ':' || d.version into kind, called from dbml.datasets d
        where d.workspace = lineage_start.workspace and d.name = base and (mark = '' or mark = ':' || d.version)
        order by d.version desc limit 1;
    end if;
    if kind is null and coalesce(said, 'table') = 'table' then
        begin
            relation := to_regclass(plain);
        exception when syntax_error or invalid_name or undefined_table then null;
        end;
        select 'table', coalesce((select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
                                  where c.oid = relation),
                                 (select plain from dbml.runs r where r.workspace = lineage_start.workspace
                                    and r.inputs @> jsonb_build_array(jsonb_build_object('relations', jsonb_build_array(plain))) limit 1))
        into kind, called;
        kind := case when called is not null then kind end;
    end if;
    if kind is null and coalesce(said, 'environment') = 'environment' then
        select 'environment', e.name || ':' || e.version into kind, called from dbml.environments e
        where e.workspace = lineage_start.workspace and e.name = base and (mark = '' or mark = ':' || e.version)
        order by e.version desc limit 1;
    end if;
    if kind is null then
        raise exception 'nothing in workspace "%" is called %', workspace, coalesce(quote_literal(lineage_start.name), 'NULL')
            using errcode = 'ML055', detail = jsonb_build_object('name', lineage_start.name, 'workspace', workspace),
                  hint = 'SELECT name, version FROM dbml.models';
    end if;
end
$$;
comment on function dbml_channel.lineage_start(text, text) is 'What a name means to dbml.lineage.';

create or replace function dbml_channel.lineage_edges(workspace text)
returns table (from_kind text, "from" text, relation text, to_kind text, "to" text, at timestamptz)
language sql stable parallel restricted security invoker
as $$
    select 'table', t.name, 'read by', 'run', r.run_id::text, r.started_at
    from dbml.runs r, jsonb_array_elements(r.inputs) i, jsonb_array_elements_text(i -> 'relations') t(name)
    where r.workspace = lineage_edges.workspace and r.inputs <> '[]'
    union
    select 'dataset', d.dataset, 'read by', 'run', d.run_id::text, d.linked_at
    from dbml.run_datasets d where d.workspace = lineage_edges.workspace and d.direction = 'input'
    union all
    select 'run', d.run_id::text, 'wrote', 'dataset', d.dataset, d.linked_at
    from dbml.run_datasets d where d.workspace = lineage_edges.workspace and d.direction = 'output'
    union all
    -- What a program said when it registered a model.
    select 'dataset', (d -> 1 ->> 'name') || coalesce(':' || (d -> 1 ->> 'version'), ''), 'given for', 'model', m.name || ':' || m.version, m.created_at
    from dbml.models m, jsonb_array_elements(case when jsonb_typeof(m.details -> 'datasets') = 'array' then m.details -> 'datasets' else '[]' end) d
    where m.workspace = lineage_edges.workspace and d -> 1 ->> 'name' is not null
    union all
    select 'script', case when r.kind = 'submitted' then r.script || ' in snapshot ' || left(r.snapshot, 12)
                          when r.stored_script is not null then r.stored_script || ':' || r.stored_version
                          else 'sha256 ' || left(r.script_sha256, 12) end, 'run as', 'run', r.run_id::text, r.started_at
    from dbml.runs r where r.workspace = lineage_edges.workspace and r.script is not null
    union all
    select 'environment', r.environment || ':' || r.environment_version, 'environment of', 'run', r.run_id::text, r.started_at
    from dbml.runs r where r.workspace = lineage_edges.workspace and r.environment is not null
    union all
    select 'model', (l ->> 'name') || ':' || (l ->> 'version'), 'loaded by', 'run', r.run_id::text, r.started_at
    from dbml.runs r, jsonb_array_elements(r.loaded) l where r.workspace = lineage_edges.workspace and r.loaded <> '[]'
    union all
    select 'run', r.replay_of::text, 'repeated by', 'run', r.run_id::text, r.started_at
    from dbml.runs r where r.workspace = lineage_edges.workspace and r.replay_of is not null
    union all
    select 'run', r.parent_run_id::text, 'parent of', 'run', r.run_id::text, r.started_at
    from dbml.runs r where r.workspace = lineage_edges.workspace and r.parent_run_id is not null
    union all
    select 'run', m.run_id::text, 'registered', 'model', m.name || ':' || m.version, m.created_at
    from dbml.models m where m.workspace = lineage_edges.workspace and m.run_id is not null
    union all
    select 'environment', m.environment, 'environment of', 'model', m.name || ':' || m.version, m.created_at
    from dbml.models m where m.workspace = lineage_edges.workspace and m.run_id is null and m.environment is not null;
$$;
comment on function dbml_channel.lineage_edges(text) is 'Every step that is known in a workspace.';

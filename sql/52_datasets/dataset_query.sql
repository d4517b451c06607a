create or replace function dbml.dataset_query(dataset text, workspace text default null)
returns text
language plpgsql stable parallel restricted security invoker
set search_path = pg_catalog, pg_temp
-- Invoker: it gives a text, and the query runs as whoever runs it.
as $$
declare
    wanted record;
begin
    wanted := dbml_channel.find_dataset(dataset, workspace);
    if wanted.kind not in ('table', 'query') then
        raise exception 'dataset "%:%" is made of files, and SQL reads tables', wanted.name, wanted.version
            using errcode = 'ML030', detail = jsonb_build_object('dataset', wanted.name, 'version', wanted.version, 'kind', wanted.kind),
                  hint = 'in Python: Dataset.get_by_name(workspace, name).to_table(''schema.table''), then SELECT * FROM schema.table';
    elsif jsonb_array_length(coalesce(nullif(wanted.definition -> 'steps', 'null'), '[]')) > 0 then
        raise exception 'dataset "%:%" has steps that Python takes: %', wanted.name, wanted.version,
            (select string_agg(s ->> 'step', ', ') from jsonb_array_elements(wanted.definition -> 'steps') s)
            using errcode = 'ML030', hint = 'in Python: Dataset.get_by_name(workspace, name).to_table(''schema.table'')';
    end if;
    return case wanted.kind when 'query' then dbml_channel.plain(wanted.definition ->> 'query')
                            else 'select * from ' || dbml_channel.table_name(wanted.definition ->> 'table') end;
end
$$;
comment on function dbml.dataset_query(text, text) is
'The query that gives the rows of a dataset made of a table or a query: for input_query, for inputs, for predict.

It runs as you, so you need the right to read what it reads. dataset: ''name'' (the latest version) or ''name:3''. An
input of run_script may name the dataset itself, {"train": {"dataset": "iris"}}: then the run''s record says so.
Errors: ML070 no such dataset; ML030 it is made of files, or has steps that only Python takes.
Example: BEGIN; SELECT dbml.register_dataset(''i'', ''query'', ''{"query": "SELECT * FROM demo.iris"}'');
    SELECT dbml.dataset_query(''i''); ROLLBACK;';

create or replace function dbml_channel.table_name(written text)
returns text
language plpgsql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
-- What is written as one writes a table's name in SQL, quoted anew: nothing but a name can come of it.
declare
    parts text[];
begin
    parts := parse_ident(written);
    if cardinality(parts) > 3 then
        raise exception 'too many parts';
    end if;
    return (select string_agg(quote_ident(p), '.' order by o) from unnest(parts) with ordinality u(p, o));
exception when others then
    raise exception 'a table must be named as in SQL, got %', quote_literal(written)
        using errcode = 'ML009', hint = '{"table": "sales.orders"}, or "sales"."My Orders" where a name needs quotes';
end
$$;
comment on function dbml_channel.table_name(text) is 'A table''s name, quoted where it must be.';

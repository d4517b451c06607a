-- An input of a script may be a dataset, {"train": {"dataset": "iris:2"}}: its query runs in the caller's session as any other,
-- and the run's record says which version it was of.
create or replace function dbml_channel.named_datasets(inputs jsonb)
returns jsonb
language sql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(jsonb_object_agg(e.key, e.value ->> 'dataset'), '{}')
    from jsonb_each(case jsonb_typeof(inputs) when 'object' then inputs else '{}' end) e
    where jsonb_typeof(e.value) = 'object' and e.value - 'dataset' = '{}' and jsonb_typeof(e.value -> 'dataset') = 'string';
end;
comment on function dbml_channel.named_datasets(jsonb) is 'The inputs that name a dataset, each with its reference.';

create or replace function dbml_channel.queries_of(named jsonb, workspace text)
returns jsonb
language plpgsql stable parallel restricted security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    input record;
    queries jsonb := '{}';
begin
    for input in select e.key as name, e.value as dataset from jsonb_each_text(named) e loop
        queries := queries || jsonb_build_object(input.name, dbml.dataset_query(input.dataset, workspace));
    end loop;
    return queries;
end
$$;
comment on function dbml_channel.queries_of(jsonb, text) is 'The queries of the datasets that inputs name.';

create or replace function dbml_channel.with_datasets(inputs jsonb, request jsonb)
returns jsonb
language plpgsql stable parallel restricted security invoker
set search_path = pg_catalog, pg_temp
as $$
-- Looked up again: what a request says is what its maker would like.
declare
    input record;
    used record;
    told jsonb := '[]';
begin
    for input in select i.value, request -> 'datasets' ->> (i.value ->> 'name') as dataset
                 from jsonb_array_elements(inputs) with ordinality i(value, place) order by i.place loop
        if input.dataset is not null then
            used := dbml_channel.find_dataset(input.dataset, request ->> 'workspace');
            if input.value ->> 'query' is distinct from dbml.dataset_query(input.dataset, request ->> 'workspace') then
                raise exception 'the input "%" is not the query of dataset "%"', input.value ->> 'name', input.dataset using errcode = 'ML009';
            end if;
            input.value := input.value || jsonb_build_object('dataset', used.name || ':' || used.version, 'dataset_id', used.dataset_id);
        end if;
        told := told || jsonb_build_array(input.value);
    end loop;
    return told;
end
$$;
comment on function dbml_channel.with_datasets(jsonb, jsonb) is 'The inputs of a request, each with the version of a dataset that it is of.';

create or replace function dbml_channel.find_dataset(
    dataset text, workspace text, wanted text default 'read', out dataset_id bigint, out workspace_id bigint, out workspace_name text, out name text,
    out version integer, out kind text, out definition jsonb)
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads the private table of datasets, by name, in a workspace that the caller may read.
as $$
#variable_conflict use_column
declare
    home record;
    plain constant text := split_part(dataset, ':', 1);
    mark constant text := substr(dataset, length(plain) + 2);
begin
    if dataset is null then
        raise exception 'dataset must be given, got NULL' using errcode = 'ML009';
    end if;
    home := dbml_channel.find_workspace(workspace, wanted);
    select d.dataset_id, d.workspace_id, home.name, d.name, d.version, d.kind, d.definition
    into find_dataset.dataset_id, find_dataset.workspace_id, find_dataset.workspace_name, find_dataset.name,
         find_dataset.version, find_dataset.kind, find_dataset.definition
    from dbml._datasets d
    where d.workspace_id = home.id and d.name = plain
      and (mark in ('', 'latest') or d.version::text = mark)
    order by d.version desc limit 1;
    if find_dataset.dataset_id is null then
        raise exception 'dataset "%" is not in workspace "%"', dataset, home.name
            using errcode = 'ML070', detail = jsonb_build_object('dataset', dataset, 'workspace', home.name),
                  hint = 'SELECT name, version FROM dbml.datasets';
    end if;
end
$$;
comment on function dbml_channel.find_dataset(text, text, text) is
    'The version that a reference (name, name:3, name:latest) means now, in the caller''s snapshot.';

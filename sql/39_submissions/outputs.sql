-- What submitted scripts leave for a datastore: asked for when they are submitted, kept when they have completed.

create or replace function dbml_channel._checked_outputs(outputs jsonb)
returns jsonb
language plpgsql stable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
-- Each as the worker has it: path and folder plain, and what it leaves out filled in.
declare
    output record;
    dataset jsonb;
    folder text;
    checked jsonb := '{}';
begin
    if jsonb_typeof(outputs) <> 'object' then
        raise exception 'outputs must be a JSON object of outputs by name, got %', jsonb_typeof(outputs) using errcode = 'ML009',
            hint = 'outputs => ''{"clean": {"path": "clean/{run-id}"}}''';
    end if;
    for output in select e.key as name, e.value as asked from jsonb_each(outputs) e order by e.key loop
        if output.name !~ '^[[:alpha:]_][[:alnum:]_-]*$' or length(output.name) > 100 then
            raise exception 'an output''s name must be letters, digits, _ and -, got %', quote_literal(output.name) using errcode = 'ML009';
        elsif jsonb_typeof(output.asked) <> 'object' or output.asked - array['path', 'folder', 'overwrite', 'dataset'] <> '{}'
              or jsonb_typeof(coalesce(output.asked -> 'path', 'null')) <> 'string'
              or jsonb_typeof(coalesce(output.asked -> 'folder', '""')) <> 'string'
              or jsonb_typeof(coalesce(output.asked -> 'overwrite', 'true')) <> 'boolean' then
            raise exception 'an output must have a path, and may have folder, overwrite and dataset, got %', output.asked
                using errcode = 'ML009', hint = '{"path": "clean/{run-id}", "folder": "clean", "overwrite": true}';
        end if;
        folder := dbml_channel._plain_path(coalesce(output.asked ->> 'folder', '.dbml-outputs/' || output.name));
        dataset := nullif(output.asked -> 'dataset', 'null');
        if dataset is not null then
            if jsonb_typeof(dataset) <> 'object' or coalesce(dataset ->> 'kind', 'file') not in ('file', 'tabular') then
                raise exception 'the dataset of an output must have a name, and kind file or tabular, got %', dataset using errcode = 'ML009';
            end if;
            dataset := jsonb_build_object('kind', 'file', 'tags', '{}'::jsonb) || jsonb_strip_nulls(dataset)
                || jsonb_build_object('definition', coalesce(nullif(dataset -> 'definition', 'null'), '{}') || '{"paths": []}');
            perform dbml_channel._check_dataset(dataset ->> 'name', dataset ->> 'kind', dataset -> 'definition', dataset -> 'tags');
        end if;
        checked := checked || jsonb_build_object(output.name, jsonb_build_object('folder', folder,
            'path', dbml_channel._plain_path(regexp_replace(output.asked ->> 'path', '/+$', '')),
            'overwrite', coalesce((output.asked ->> 'overwrite')::boolean, false), 'dataset', dataset));
    end loop;
    return checked;
end
$$;
comment on function dbml_channel._checked_outputs(jsonb) is 'The outputs of a submitted script, checked and complete.';

create or replace function dbml_channel._keep_run_output_v1(run_id uuid, output text, files text[])
returns jsonb
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables, for the worker; what is written where was asked for by who submitted the run.
as $$
declare
    run constant dbml._runs := dbml_channel._submitted_run(run_id);
    asked constant jsonb := run.params -> 'outputs' -> output;
    dataset constant jsonb := nullif(asked -> 'dataset', 'null');
    prefix constant text := '.dbml-outputs/' || output || '/';
    folder constant text := replace(replace(asked ->> 'path', '{run-id}', run.run_id::text), '{output-name}', output);
    file record;
    held jsonb := '{}';
    version integer;
    its_id bigint;
begin
    if asked is null then
        raise exception 'run % has no output "%"', run.run_id, output using errcode = 'ML052';
    end if;
    for file in select dbml_channel._plain_path(folder || '/' || f.path) as path, prefix || f.path as artifact, a.digest, n.digest as former
                from unnest(files) f(path)
                left join dbml._artifacts a on (a.run_id, a.name) = (run.run_id, prefix || f.path)
                left join dbml._files n on n.workspace_id = run.workspace_id and n.path = (folder || '/' || f.path) collate "C"
                order by 1 loop
        if file.digest is null then
            raise exception 'run % does not keep the file "%"', run.run_id, file.artifact using errcode = 'ML052';
        elsif file.former <> file.digest and not (asked ->> 'overwrite')::boolean then
            raise exception 'the output "%" must not take the place of the file "%"', output, file.path
                using errcode = 'ML009', hint = 'as_upload(overwrite=True), or a path with {run-id}, which is another for each run';
        end if;
        insert into dbml._files (workspace_id, path, digest, created_by) values (run.workspace_id, file.path, file.digest, run.username)
        on conflict on constraint _files_pkey do update
        set digest = excluded.digest, created_at = now(), created_by = excluded.created_by;
        delete from dbml._artifacts a where (a.run_id, a.name) = (run.run_id, file.artifact);
        if file.former <> file.digest then
            perform dbml._free_blob(file.former);
        end if;
        held := held || jsonb_build_object(file.path, encode(file.digest, 'hex'));
    end loop;
    if dataset is not null and held <> '{}' then
        select i.version, i.dataset_id into version, its_id
        from dbml._insert_dataset(run.username, run.workspace_id, run.workspace, dataset ->> 'name', dataset ->> 'kind',
            (dataset -> 'definition') || jsonb_build_object('paths', jsonb_build_array(jsonb_build_object(
                'datastore', 'workspaceblobstore', 'path', folder || coalesce('/' || nullif(dataset ->> 'glob', ''), '')))),
            null, held, dataset ->> 'description', dataset -> 'tags', true) i;
        insert into dbml._run_datasets (run_id, dataset_id, workspace_id, dataset, name_in_run, direction)
        values (run.run_id, its_id, run.workspace_id, (dataset ->> 'name') || ':' || version, output, 'output')
        on conflict do nothing;
    end if;
    return jsonb_build_object('path', folder, 'files', cardinality(files), 'dataset', (dataset ->> 'name') || ':' || version);
end
$$;
comment on function dbml_channel._keep_run_output_v1(uuid, text, text[]) is
    'Let artifacts of a submitted run be files of the default datastore, and a version of a dataset where that was asked for.';

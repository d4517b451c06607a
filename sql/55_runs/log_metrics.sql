create or replace function dbml.log_metrics(
    run_id   uuid,
    metrics  jsonb,
    writer   uuid   default null,
    sequence bigint default null)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables.
as $$
declare
    found_run dbml._runs := dbml._find_run(run_id, 'write');
    newest bigint;
    written bigint;
begin
    if found_run.source <> 'client' and found_run.finished_at is null then
        raise exception 'run % is of a script, which logs by itself until it ends', run_id using errcode = 'ML009',
            hint = 'run.log(name, value) in the script';
    elsif (writer is null) <> (sequence is null) then
        raise exception 'writer and sequence must be given both or neither' using errcode = 'ML009';
    elsif jsonb_typeof(metrics) = 'object' then
        select coalesce(jsonb_agg(jsonb_build_object('name', e.key, 'value', e.value) order by e.ordinality), '[]') into metrics
        from jsonb_each(metrics) with ordinality e;
    elsif jsonb_typeof(metrics) is distinct from 'array' then
        raise exception 'metrics must be an object of names and values or an array of objects, got %', coalesce(metrics::text, 'NULL')
            using errcode = 'ML009', hint = format('SELECT dbml.log_metrics(%L, ''{"rmse": 0.25}'')', run_id);
    end if;
    -- The order of logging is one for all who log to the run.
    perform pg_advisory_xact_lock(hashtextextended('dbml metrics ' || run_id, 0));
    if writer is not null then
        insert into dbml._metric_writers as w (run_id, writer, sequence)
        values (log_metrics.run_id, log_metrics.writer, log_metrics.sequence)
        on conflict on constraint _metric_writers_pkey do update set sequence = excluded.sequence where w.sequence < excluded.sequence;
        if not found then
            return 0;
        end if;
    end if;
    select coalesce(max(m.ordinal), -1) into newest from dbml._metrics m where m.run_id = log_metrics.run_id;
    insert into dbml._metrics (run_id, ordinal, name, step, value, kind, data, logged_at)
    select log_metrics.run_id, newest + g.ordinality, g.item ->> 'name', (g.item ->> 'step')::bigint,
           case jsonb_typeof(g.item -> 'value')
               when 'number' then (g.item ->> 'value')::double precision
               when 'boolean' then (g.item ->> 'value')::boolean::integer
               when 'string' then case when g.item ->> 'value' in ('NaN', 'Infinity', '-Infinity') then (g.item ->> 'value')::double precision end
           end,
           coalesce(g.item ->> 'kind', 'scalar'),
           case when g.item ? 'data' then g.item -> 'data'
                when jsonb_typeof(g.item -> 'value') in ('boolean', 'object', 'array')
                     or jsonb_typeof(g.item -> 'value') = 'string' and g.item ->> 'value' not in ('NaN', 'Infinity', '-Infinity')
                then g.item -> 'value' end,
           coalesce(to_timestamp((g.item ->> 'time')::double precision), clock_timestamp())
    from jsonb_array_elements(metrics) with ordinality g(item, ordinality);
    get diagnostics written = row_count;
    return written;
exception
    when check_violation or not_null_violation then
        raise exception 'a metric must have a name, a value and a kind of scalar, list, row, table or image' using errcode = 'ML009',
            hint = format('SELECT dbml.log_metrics(%L, ''[{"name": "rmse", "value": 0.25, "step": 1}]'')', run_id);
    when invalid_text_representation or numeric_value_out_of_range or invalid_parameter_value then
        raise exception 'a metric''s value must be a number, true, false or text, its step a whole number, and its time Unix time: %', sqlerrm
            using errcode = 'ML009';
end
$$;
comment on function dbml.log_metrics(uuid, jsonb, uuid, bigint) is
'Log many values of a run in one call; returns how many were written.

metrics is {"rmse": 0.25, "mae": 0.2}, or an array in order: [{"name": "loss", "value": 0.5, "step": 1, "time": 1767225600.5}].
A value is a number, true, false, text, or "NaN", "Infinity", "-Infinity"; kind and data are for lists, rows and tables.
writer and sequence let a client send a batch again after its connection broke: a sequence that is not above the writer''s
last one is not written again. Several sessions may log to one run at once: each value is kept once.
Errors: ML009 no such form, or a script''s run that has not ended; ML052 no such run.
Example: SELECT dbml.log_metrics(dbml.start_run(''by-hand''), ''{"rmse": 0.25, "rows": 442}'');';

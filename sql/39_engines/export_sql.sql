create or replace function dbml.export_sql(model text, name text default null, workspace text default null)
returns text
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables, after the caller's right to read the model has been checked.
as $$
declare
    lent constant record := dbml_channel.find_model(model, workspace, 'read');
    c dbml._certificates;
    made record;
    target text;
    parts text[] := '{}';
begin
    select s.* into c from dbml._certificates s where s.model_id = lent.model_id and s.engine = 'sql';
    if c.status is distinct from 'certified' then
        raise exception 'model "%" has no certified form in SQL: %', model, coalesce(c.reason, 'it was never compiled') using errcode = 'ML027',
            detail = jsonb_build_object('model', model, 'engine', 'sql', 'why', c.reason),
            hint = format('SELECT dbml.compile_model(%L)', model);
    end if;
    for made in select m.key as method, f.key as form, p.oid as routine, p.proname::text as own
                from jsonb_each(c.functions) m, jsonb_each_text(m.value) f, pg_proc p
                where p.pronamespace = 'dbml_models'::regnamespace and p.proname = f.value order by m.key, f.key desc loop
        target := coalesce(export_sql.name, lent.name::text) || case made.method when 'predict' then '' else '_proba' end
            || case made.form when 'set' then '' else '_of_array' end;
        parts := parts || (format(E'-- %s of one row%s: NULL or not finite where the model itself must answer.\n',
                case made.method when 'predict' then 'The prediction' else 'The probabilities, a class each' end,
                case made.form when 'row' then ', its features in an array' else coalesce(', its features in this order: '
                    || array_to_string(c.features, ', '), '') end)
            || replace(pg_get_functiondef(made.routine), 'dbml_models.' || quote_ident(made.own), quote_ident(target))
            || case when pg_get_functiondef(made.routine) ~ ';\s*$' then '' else ';' end);
    end loop;
    return format(E'-- Model %s, version %s, as functions for any PostgreSQL from 14 on; made by dbml %s.\n'
        '-- Compared with the model itself on %s rows: largest relative error %s, tolerance %s.\n\n',
        lent.name, lent.version, c.dbml_version, c.rows_compared, coalesce(c.max_relative_error, 0), c.tolerance)
        || array_to_string(parts, E'\n\n') || E'\n';
end
$$;
comment on function dbml.export_sql(text, text, text) is
'A compiled model as the text of CREATE FUNCTION statements, for a PostgreSQL without dbml.

name: what the function is called there, by default as the model; the form that takes an array ends in _of_array, that
of probabilities in _proba.
Errors: ML020 no such model; 42501 no right to read it; ML027 it has no certified form in SQL.
Example: SELECT length(dbml.export_sql(''demo-diabetes'', ''progression'')) > 0;';

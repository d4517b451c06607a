create or replace function dbml_channel.output_parts(run_id uuid, name text)
returns table (columns jsonb, literals text[])
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables, where the caller may read the run's workspace.
as $$
begin
    if not exists (select from dbml._outputs o join dbml._runs r using (run_id)
                   where (o.run_id, o.name) = (output_parts.run_id, output_parts.name)
                     and dbml_channel.may(r.workspace_id, 'read')) then
        raise exception 'run % has no output "%"', coalesce(run_id::text, 'NULL'), name
            using errcode = 'ML052', detail = jsonb_build_object('run_id', run_id, 'name', name),
                  hint = 'run.outputs["name"] = frame in a script makes one; SELECT * FROM dbml.outputs lists them';
    end if;
    return query select p.columns, p.literals from dbml._output_parts p
    where (p.run_id, p.name) = (output_parts.run_id, output_parts.name) order by p.ordinal;
end
$$;
comment on function dbml_channel.output_parts(uuid, text) is 'The rows of an output, in parts: an array literal a column.';

create or replace function dbml.run_output(run_id uuid, name text)
returns setof record
language plpgsql volatile parallel restricted security invoker
as $$
declare
    guess text[] := array['dbml_channel.unknown_column'];
    total integer := 1;
    said text;
    give text;
    part record;
begin
    loop
        begin
            return query execute dbml_channel.null_row(guess);
            exit;
        exception
            when datatype_mismatch then
                get stacked diagnostics said = pg_exception_detail;
                select n.guess, n.total into guess, total from dbml_channel.next_guess(said, guess, total) n;
            when feature_not_supported then
                raise exception 'run_output returns rows: call it in FROM, with a column list' using errcode = 'ML007',
                    hint = 'SELECT columns FROM dbml.outputs tells names and types';
        end;
    end loop;
    give := dbml_channel.give_columns(guess);
    for part in select * from dbml_channel.output_parts(run_id, name) loop
        if cardinality(part.literals) <> cardinality(guess) then
            raise exception 'output "%" has % columns, the column list has %', name, cardinality(part.literals), cardinality(guess)
                using errcode = 'ML007',
                      detail = jsonb_build_object('returned', cardinality(part.literals), 'listed', cardinality(guess)),
                      hint = 'AS t(' || (select string_agg(format('%I %s', c ->> 'name', c ->> 'type'), ', ' order by o)
                                         from jsonb_array_elements(part.columns) with ordinality u(c, o)) || ')';
        end if;
        return query execute give using part.literals;
    end loop;
end
$$;
comment on function dbml.run_output(uuid, text) is
'The rows of an output that a script kept with its run, beside OutputDataSet: run.outputs["name"] = frame.

The column list says the types wanted; dbml.outputs tells those that the output has by itself.
Errors: ML052 no such run or output; ML007 another number of columns (HINT: a list that fits).
Example: SELECT o.name, r.* FROM dbml.outputs o, dbml.run_output(o.run_id, o.name) AS r(x bigint) WHERE o.name = ''mine'';';

create or replace function dbml_channel.forget_output(run_id uuid, name text)
returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: deletes from private tables.
as $$
begin
    perform dbml._find_run(run_id, 'write');
    delete from dbml._outputs o where (o.run_id, o.name) = (forget_output.run_id, forget_output.name);
    return found;
end
$$;
comment on function dbml_channel.forget_output(uuid, text) is
    'Delete an output that a client kept only to read it; returns whether it was there.';

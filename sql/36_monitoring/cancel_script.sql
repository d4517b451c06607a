create or replace function dbml.cancel_script(run_id uuid)
returns boolean
language plpgsql volatile parallel unsafe security invoker
as $$
begin
    if dbml_channel.take_back(cancel_script.run_id) then
        return true;
    end if;
    return (select (a #>> '{}')::boolean
            from dbml_channel.ask(jsonb_build_object('kind', 'cancel', 'run_id', cancel_script.run_id)) a);
end
$$;
comment on function dbml.cancel_script(uuid) is
'Stop a running or waiting script, from another session; its caller gets ERROR 57014. Returns whether there was one.

Roles stop their own scripts, owners of a workspace those in it, administrators any. dbml.active_scripts lists them. A
submitted run that has not begun is taken back, when your transaction commits.
Example: SELECT dbml.cancel_script(run_id) FROM dbml.active_scripts WHERE seconds > 600;';

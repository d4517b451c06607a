create or replace function dbml.cancel_script(run_id uuid)
returns boolean
language sql volatile parallel restricted security invoker
begin atomic
    select (a #>> '{}')::boolean from dbml_channel.ask(jsonb_build_object('kind', 'cancel', 'run_id', cancel_script.run_id)) a;
end;
comment on function dbml.cancel_script(uuid) is
'Stop a running or waiting script, from another session; its caller gets ERROR 57014. Returns whether there was one.

Roles stop their own scripts, owners of a workspace those in it, administrators any. dbml.active_scripts lists them.
Example: SELECT dbml.cancel_script(run_id) FROM dbml.active_scripts WHERE seconds > 600;';

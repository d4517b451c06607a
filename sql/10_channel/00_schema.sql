-- The channel between SQL and worker: what the public functions, which run as the caller, need from
-- the owner.  A caller may execute these functions, and gains nothing by it that run_script and
-- predict do not give: who calls is decided here, from the session, and signed.
create schema if not exists dbml_channel;
comment on schema dbml_channel is
    'The channel between SQL and the dbml worker: called by the functions of schema dbml, not by people.';

create schema if not exists dbml_runtime;
comment on schema dbml_runtime is
    'Queries of what runs later, each in a function of whom it runs as: made by dbml.submit_run, executed by the worker, dropped after.';

do $$
begin
    if to_regtype('dbml_channel.unknown_column') is null then
        -- A type that no column list names: probing with it makes PostgreSQL say what it expected.
        create type dbml_channel.unknown_column as enum ();
        create type dbml_channel.expected_column as enum ();
    end if;
end
$$;

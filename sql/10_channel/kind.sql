create or replace function dbml_channel.kind(type regtype)
returns text
language plpgsql stable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
-- How a column of this type travels; dbml.columns.kinds holds the other end of the same table.
declare
    t pg_type;
    element text;
begin
    select * into t from pg_type p where p.oid = kind.type;
    if t.typtype = 'd' then
        return dbml_channel.kind(t.typbasetype);
    end if;
    element := case t.oid
        when 'bool'::regtype then 'bool' when 'int2'::regtype then 'int2' when 'int4'::regtype then 'int4'
        when 'int8'::regtype then 'int8' when 'float4'::regtype then 'float4' when 'float8'::regtype then 'float8'
        when 'oid'::regtype then 'oid' when 'date'::regtype then 'date' when 'timestamp'::regtype then 'timestamp'
        when 'timestamptz'::regtype then 'timestamptz' when 'time'::regtype then 'time'
        when 'timetz'::regtype then 'timetz' when 'interval'::regtype then 'interval' when 'uuid'::regtype then 'uuid'
        when 'numeric'::regtype then 'numeric' when 'json'::regtype then 'json' when 'jsonb'::regtype then 'jsonb'
        when 'bytea'::regtype then 'bytea' end;
    if element is not null then
        return element;
    elsif t.typcategory = 'A' and t.typelem <> 0 and t.oid not in ('int2vector'::regtype, 'oidvector'::regtype) then
        element := dbml_channel.kind(t.typelem);
        if element in ('bool', 'int2', 'int4', 'int8', 'float4', 'float8', 'date', 'timestamp', 'timestamptz',
                       'uuid', 'bytea', 'numeric') then
            return 'array:' || element;
        end if;
        return 'textarray';
    end if;
    return 'text';
end
$$;
comment on function dbml_channel.kind(regtype) is
    'How a column of a type travels to the worker: fixed width, varying, array, or as its text.';

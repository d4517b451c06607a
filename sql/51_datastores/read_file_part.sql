create or replace function dbml.read_file_part(path text, part integer, workspace text default null, dataset text default null, checked boolean default true)
returns bytea
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads private tables.
as $$
declare
    digest constant bytea := dbml._find_file(path, workspace, dataset);
begin
    return dbml._asked_part(digest, part, checked);
end
$$;
comment on function dbml.read_file_part(text, integer, text, text, boolean) is
'One part of a file in the default datastore, 1 MiB but for the last, counted from 0; NULL past its end.

So a file of any size is read in bounded memory. dataset: as for read_file.
checked => false leaves out the digest of the part, for who checks that of the whole, as the SDK does: on a server without OpenSSL it
is most of the work.
Errors: ML073 no such file; ML070 no such dataset; ML022 stored bytes do not match their digest.
Example: BEGIN; SELECT dbml.write_file(''a.txt'', ''hello''); SELECT dbml.read_file_part(''a.txt'', 0); ROLLBACK;';

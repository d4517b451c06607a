create or replace function dbml.create_snapshot(
    files     jsonb default null,
    archive   bytea default null,
    digest    text  default null,
    workspace text  default null)
returns text
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: writes private tables.
as $$
declare
    largest constant bigint := 300 * 1024 * 1024;   -- as the service had it whose SDK this follows
    home constant bigint := (dbml_channel.find_workspace(workspace, 'write')).id;
    content bytea := archive;
    whole bytea;
    size bigint;
begin
    if num_nonnulls(files, archive, digest) <> 1 then
        raise exception 'exactly one of files, archive and digest must be given' using errcode = 'ML009',
            hint = 'SELECT dbml.create_snapshot(''{"train.py": "print(1)"}'')';
    elsif files is not null then
        content := dbml_channel.tar(files);
    elsif digest is not null then
        if digest !~ '^[0-9a-f]{64}$' then
            raise exception 'digest must be a SHA-256 in hex, got %', quote_literal(digest) using errcode = 'ML009';
        end if;
        whole := decode(digest, 'hex');
        size := dbml._use_upload(whole);
        content := dbml._blob_part(whole, 0);
    end if;
    if substr(content, 1, 2) <> '\x1f8b' and substr(content, 258, 5) <> '\x7573746172' then
        raise exception 'archive must be a tar archive, plain or compressed by gzip, got % bytes of something else', octet_length(content)
            using errcode = 'ML009';
    end if;
    size := coalesce(size, octet_length(content));
    if size > largest then
        raise exception 'a snapshot can have % MB at most, got % MB', largest >> 20, size >> 20
            using errcode = 'ML005', detail = jsonb_build_object('limit', 'snapshot', 'value', largest >> 20, 'unit', 'MB'),
                  hint = 'name what a script does not need in a file .amlignore, and keep data in tables or datasets';
    end if;
    whole := coalesce(whole, dbml._store_blob(content));
    insert into dbml._snapshots (workspace_id, digest, created_by) values (home, whole, dbml_channel.caller())
    on conflict do nothing;
    return encode(whole, 'hex');
end
$$;
comment on function dbml.create_snapshot(jsonb, bytea, text, text) is
'Keep the files of a script, for dbml.submit_run; returns the snapshot: the SHA-256 of its bytes, in hex.

files is an object of texts by path; archive is a tar archive, plain or compressed by gzip, of 300 MB at most; digest is
that of an archive that you have uploaded (dbml.begin_upload). The same bytes again are the same snapshot, and are kept once.
Errors: ML005 it is too large; ML009 none or several are given, or a path is not one; ML053 not uploaded; ML050 no such workspace.
Example: SELECT dbml.create_snapshot(''{"train.py": "from lib.text import hello\nprint(hello)", "lib/text.py": "hello = ''''hi''''"}'');';

create or replace function dbml_channel.tar(files jsonb)
returns bytea
language plpgsql immutable parallel safe security invoker
set search_path = pg_catalog, pg_temp
as $$
-- Source: POSIX.1-1988, ustar.  No times and no owners, so that the same files are the same bytes.
declare
    file record;
    head bytea; body bytea; total integer;
    made bytea := '';
begin
    if jsonb_typeof(files) <> 'object' or files = '{}' then
        raise exception 'files must be a JSON object of texts by path, got %', left(files::text, 80) using errcode = 'ML009';
    end if;
    for file in select e.key as path, e.value from jsonb_each(files) e order by convert_to(e.key, 'UTF8') loop
        if file.path ~ '(^|/)(\.{0,2})(/|$)' or file.path ~ '[[:cntrl:]\\]' or octet_length(convert_to(file.path, 'UTF8')) > 99 then
            raise exception 'a path in a snapshot must be relative, without . and .., and of 99 bytes at most, got %', quote_literal(file.path)
                using errcode = 'ML009', hint = 'an archive made by tar takes longer paths: dbml.create_snapshot(archive => ...)';
        elsif jsonb_typeof(file.value) <> 'string' then
            raise exception 'a file in a snapshot must be text, got % for %', jsonb_typeof(file.value), quote_literal(file.path)
                using errcode = 'ML009', hint = 'an archive takes any file: dbml.create_snapshot(archive => ...)';
        end if;
        body := convert_to(file.value #>> '{}', 'UTF8');
        head := convert_to(file.path, 'UTF8');
        head := head || decode(repeat('00', 100 - octet_length(head)), 'hex')
            || '0000644\000'::bytea || '0000000\000'::bytea || '0000000\000'::bytea
            || convert_to(dbml_channel.octal(octet_length(body)), 'UTF8') || '\x00'::bytea || '00000000000\000'::bytea
            || '        '::bytea || '0'::bytea || decode(repeat('00', 100), 'hex') || 'ustar\00000'::bytea
            || decode(repeat('00', 247), 'hex');
        select sum(get_byte(head, i)) into total from generate_series(0, 511) i;
        head := overlay(head placing convert_to(right(dbml_channel.octal(total), 6), 'UTF8') || '\x0020'::bytea from 149);
        made := made || head || body || decode(repeat('00', (512 - octet_length(body) % 512) % 512), 'hex');
    end loop;
    return made || decode(repeat('00', 1024), 'hex');
end
$$;
comment on function dbml_channel.tar(jsonb) is 'An archive of texts by path.';

create or replace function dbml_channel.octal(n integer)
returns text
language sql immutable parallel safe security invoker
begin atomic
    select string_agg(((n >> (3 * i)) & 7)::text, '' order by i desc) from generate_series(0, 10) i;
end;
comment on function dbml_channel.octal(integer) is 'A number in octal, with zeros in front.';

create or replace function dbml_channel.caller()
returns text
language sql stable parallel safe security invoker
begin atomic
    -- Both survive a security definer boundary; current_user does not.
    select case current_setting('role') when 'none' then session_user::text else current_setting('role') end;
end;
comment on function dbml_channel.caller() is
    'The role that calls, inside security definer functions too: SET ROLE''s, else the session''s.';

create or replace function dbml_channel.is_grantee(role text, grantee text)
returns boolean
language sql stable parallel safe security invoker
begin atomic
    select is_grantee.grantee = 'public'
        or coalesce(pg_has_role(is_grantee.role, to_regrole(quote_ident(is_grantee.grantee))::oid, 'member'), false);
end;
comment on function dbml_channel.is_grantee(text, text) is
    'Whether what was granted to a grantee holds for a role: itself, a group that it is a member of, or public.';

create or replace function dbml.rotate_keys(grace interval default '1 minute')
returns timestamptz
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
-- Definer: reads and writes the channel's secrets, which it tells nobody; for administrators.
as $$
declare
    former dbml._worker;
    fresh bytea := '';
    inner_ bytea; outer_ bytea;
    until constant timestamptz := clock_timestamp() + grace;
begin
    perform dbml_channel._check_administrator('change the keys');
    if grace is null or grace < interval '0' or grace > interval '1 day' then
        raise exception 'grace must be 0 to 1 day, got %', coalesce(grace::text, 'NULL') using errcode = 'ML009',
            detail = jsonb_build_object('argument', 'grace', 'value', grace::text), hint = 'SELECT dbml.rotate_keys(''1 minute'')';
    end if;
    select * into former from dbml._worker for update;
    for i in 1 .. 4 loop
        fresh := fresh || uuid_send(gen_random_uuid());
    end loop;
    -- As random as uuids are: 122 bits each.
    inner_ := fresh;
    outer_ := fresh;
    for i in 0 .. 63 loop
        inner_ := set_byte(inner_, i, get_byte(fresh, i) # 54);
        outer_ := set_byte(outer_, i, get_byte(fresh, i) # 92);
    end loop;
    update dbml._worker w set
        password = encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex'),
        secret = fresh, inner_key = inner_, outer_key = outer_, keys_changed_at = clock_timestamp(),
        former_password = case when grace > interval '0' then former.password end,
        former_secret = case when grace > interval '0' then former.secret end,
        former_until = case when grace > interval '0' then until end;
    -- A submitted run waits under a signature: it gets the new one where the former one was right.
    update dbml._submissions s set signature = dbml_channel._sign(s.request)
    where s.signature = encode(sha256(former.outer_key || sha256(former.inner_key || convert_to(s.request, 'UTF8'))), 'hex');
    notify dbml_submissions;   -- the worker listens there, and hears of it when this commits
    return until;
end
$$;
comment on function dbml.rotate_keys(interval) is
'Change the channel''s password and signing key; returns until when the worker takes the former ones too.

The worker hears of it when the transaction commits, and need not be restarted. Calls that are open go on, and sessions keep
their connections: every call is signed anew. grace is for transactions that began before, and for hot standbys that are
behind: later they are refused with ML012 until they begin again. Where a key was stolen, grace is 0. Submitted runs that
wait are signed again. For administrators: the owner of the schema and its members, and dbml_admin.
Errors: 42501 no administrator; ML009 grace is not 0 to 1 day.
Example: BEGIN; SELECT dbml.rotate_keys() > now() AS taken_for_a_while; ROLLBACK;';

# ruff: noqa: E501 - statements, as an attacker would write them
"""Attacks in SQL, by a role that may run scripts and make functions: forged requests, stolen rights, others' rows.

A word that nobody can guess is in a workspace of another role's, in everything that a workspace holds; the attacker knows all its
names.  The arena's own canary will not do: it is in runs of the workspace that all roles share.
"""

from __future__ import annotations

import pickle
import secrets
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from sklearn.linear_model import LinearRegression

from benchmarks.escape.arena import Arena
from benchmarks.escape.attack import attack_elsewhere

RUN = """select * from dbml.run_script(%s, params => %s, workspace => %s, experiment => 'theirs') as t(x text)"""
WHO = "select * from dbml.run_script('OutputDataSet = {\"u\": [run.user]}') as t(u text)"


@dataclass
class Session:
    """The attacker's session: what it executes, and all that it gets to see of it."""

    connection: psycopg.Connection[Any]
    word: str = ""  # what it must not learn
    seen: list[str] = field(default_factory=list)

    def __call__(self, statement: str, values: Iterable[Any] | None = None) -> str:
        """Execute a statement; returns its rows or its error, which stay in `seen`."""
        try:
            cursor = self.connection.execute(statement, values)  # type: ignore[arg-type]
            got = repr(cursor.fetchall()) if cursor.description else ""
        except psycopg.Error as error:
            diagnosed = error.diag
            got = f"{error.sqlstate} {error} {diagnosed.message_detail} {diagnosed.message_hint} {diagnosed.context}"
        self.seen.append(got)
        return got


@contextmanager
def _sides(arena: Arena) -> Iterator[tuple[Session, psycopg.Connection[Any], dict[str, Any]]]:
    """Give the attacker's session, the owner's, and the names of the victim's things."""
    with arena.connect() as owner:
        for name in ("attacker", "victim"):
            owner.execute(sql.SQL("create role {0} login password 'x'; grant dbml_scripter to {0}").format(sql.Identifier(name)))
        owner.execute(
            "grant create on schema public to attacker; grant create on schema public to victim; create schema attack authorization attacker;"
            # Which an operator may have given to all: then the signature alone is in the way.
            "grant execute on function public.dblink(text, text), public.dblink_get_connections() to attacker"
        )
        try:
            word = secrets.token_hex(12)
            with arena.connect("victim") as victim:
                known = _furnish(word, victim)
            with arena.connect("attacker") as connection:
                session = Session(connection, word)
                connection.add_notice_handler(lambda notice: session.seen.append(notice.message_primary or ""))
                yield session, owner, known
        finally:
            with suppress(psycopg.errors.UndefinedFunction):
                owner.execute("select dbml.delete_model('secret', workspace => 'theirs')")
            owner.execute("drop owned by attacker, victim cascade; drop role attacker; drop role victim")
            owner.execute("delete from dbml._workspaces where name in ('theirs', 'mine')")


def _furnish(word: str, victim: psycopg.Connection[Any]) -> dict[str, Any]:
    """Make a workspace with the canary in everything it holds; returns what it is called."""
    victim.execute("select dbml.create_workspace('theirs', description => %s)", (word,))
    held = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    held.word = word
    victim.execute(
        "select dbml.register_model('secret', %s, description => %s, tags => %s, workspace => 'theirs')",
        (pickle.dumps(held), word, Jsonb({"tag": word})),
    )
    script = (
        f"# {word}\nprint({word!r})\nrun.log({word!r}, 1)\nopen('f', 'w').write({word!r})\nrun.upload_file('file', 'f')\n"
        "OutputDataSet = {'x': [run.id]}"
    )
    (run,) = victim.execute(RUN, (script, Jsonb({"p": word}), "theirs")).fetchone()  # type: ignore[misc]
    victim.execute(
        "select dbml.create_script('script', 'python', %s, workspace => 'theirs')", (f"OutputDataSet = {{'x': [{word!r}]}}",)
    )
    row = victim.execute("select encode(sha256(dbml.model_bytes('secret', workspace => 'theirs')), 'hex')").fetchone()
    return {"run": run, "digest": None if row is None else row[0]}


@attack_elsewhere
def forged_requests(arena: Arena) -> str | None:
    """Send requests on the open connection to the worker: unsigned, with a signature made up, in another's name."""
    with _sides(arena) as (attacker, _, known):
        attacker(WHO)
        header = (
            f'{{"kind": "%s", "script": "x = 1", "user": "victim", "run_id": "{known["run"]}", "nonce": "n", "expires": 9999999999,'
            f' "protocol": 1, "form": "row", "method": "predict", "digest": "{known["digest"]}"}}'
        )
        for kind in ("script", "score", "ping", "active", "cancel", "environment"):
            for start in ("open ", f"open {'0' * 64} ", f"open {'f' * 64} ", "open  ", ""):
                attacker("begin")
                got = attacker(
                    "select * from dblink('dbml0', %s) as t(tag text, head text, body text)", (start + header % kind + "\n",)
                )
                attacker("rollback")
                if got.startswith("["):
                    return f"answered: {got[:100]}"
        if "attacker" not in attacker(WHO):
            return "its own calls are not answered any more"
        return _learned(attacker)


@attack_elsewhere
def replayed_and_altered_requests(arena: Arena) -> str | None:
    """Send a request that was signed for another again, and altered in one place."""
    with _sides(arena) as (attacker, owner, _):
        attacker(WHO)
        signed = """with made as (select jsonb_build_object('kind', 'ping', 'protocol', w.protocol, 'user', 'victim', 'session_user', 'victim',
                'nonce', gen_random_uuid(), 'expires', extract(epoch from clock_timestamp()) + 60)::text as header, w.* from dbml._worker w)
            select encode(sha256(outer_key || sha256(inner_key || convert_to(header, 'UTF8'))), 'hex'), header from made"""
        send = "select tag from dblink('dbml0', %s) as t(tag text, head text, body text)"
        signature, header = owner.execute(signed).fetchone()  # type: ignore[misc]
        if "pong" not in (got := attacker(send, (f"open {signature} {header}",))):
            return f"the witness is broken, a signed request is not answered: {got[:200]}"
        if "pong" in attacker(send, (f"open {signature} {header}",)):
            return "a request was answered twice"
        signature, header = owner.execute(signed).fetchone()  # type: ignore[misc]
        for altered in (
            header.replace("victim", "postgres"),
            header.replace("ping", "active"),
            header + " ",
            header.replace('"expires": ', '"expires": 1'),
        ):
            if attacker(send, (f"open {signature} {altered}",)).startswith("["):
                return f"an altered request was answered: {altered[:80]}"
        return None


@attack_elsewhere
def requests_that_claim_more(arena: Arena) -> str | None:
    """Have the channel's own functions sign requests that claim another caller, pool, workspace, stored script or right."""
    with _sides(arena) as (attacker, owner, known):
        (theirs,) = owner.execute("select workspace_id from dbml._workspaces where name = 'theirs'").fetchone()  # type: ignore[misc]
        made = """dbml_channel.script_request('OutputDataSet = {"u": [run.user]}', null, '{}', '{}', 'python', 'InputDataSet',
            'OutputDataSet', null, null, null, 1, null, null, null, null, null)"""
        claims: list[dict[str, Any]] = [
            {"user": "victim"}, {"user": "postgres", "session_user": "postgres"}, {"workspace_id": theirs, "workspace": "theirs"},
            {"stored_script": "script", "workspace_id": theirs}, {"client_address": "10.0.0.1", "database": "other"},
            {"pool": {"name": "default", "network": True, "memory_mb": None, "cpu_seconds": None, "processes": None, "scratch_mb": None,
                      "output_mb": None, "timeout_s": None, "concurrency": None}},
        ]  # fmt: skip
        for claim in claims:
            for form in ("run_call", "open_call"):
                attacker(
                    f"select * from dbml_channel.{form}({made} || %s)", (Jsonb({"result": "json", "backend_pid": 1, **claim}),)
                )
        for request in (
            {"kind": "cancel", "run_id": known["run"], "admin": True}, {"kind": "active", "admin": True, "user": "victim"},
            {"kind": "refused", "refusal": {"sqlstate": "ML005", "message": "x"}, "params": {}, "pool": "p"},
            {"kind": "score", "form": "row", "method": "predict", "digest": known["digest"], "model": "secret", "workspace_id": theirs},
            {"kind": "score", "form": "describe", "method": "predict", "digest": known["digest"], "model": "secret"},
            {"kind": "environment", "form": "build", "lock": "x"},
        ):  # fmt: skip
            for _ in range(2):
                attacker("begin")
                attacker("select * from dbml_channel.open_call(%s, %s)",
                         (Jsonb(request), "0000000100000000000002bd00000001000000010000000840100000000000"))  # fmt: skip
                if known["digest"]:
                    attacker("select dbml_channel.send_model(decode(%s, 'hex'))", (known["digest"],))
                attacker("rollback")
        wrong = owner.execute(
            "select username, workspace from dbml._runs where session_user_ = 'attacker' and (username <> 'attacker' or workspace = 'theirs')"
        ).fetchall()
        return f"runs as another or elsewhere: {wrong}" if wrong else _learned(attacker)


TRAP = """
create function {schema}.{name}({arguments}) returns {result} language plpgsql as $trap$
begin
    if current_user <> 'attacker' then
        raise notice 'GOT called as % with %', current_user, array[{shown}]::text;
    end if;
    return null;
end $trap$"""
# Better matches, for what the functions of dbml call with these types, than PostgreSQL's own, which take any.
TRAPS = (
    ("format", "text, text, integer, text", "text"), ("format", "text, text", "text"), ("format", "text, text, text", "text"),
    ("format", "text, bigint", "text"), ("format", "text, text, integer", "text"), ("coalesce_", "text", "text"),
    ("jsonb_build_object", "text, text", "jsonb"), ("jsonb_build_object", "text, text, text, text", "jsonb"),
    ("jsonb_build_object", "text, integer", "jsonb"), ("jsonb_build_object", "text, bigint", "jsonb"),
    ("array_position", "text[], text", "integer"), ("array_length", "text[], integer", "integer"),
    ("cardinality", "text[]", "integer"), ("unnest", "text[]", "text"), ("array_ndims", "double precision[]", "integer"),
    ("has_function_privilege", "text, oid, text", "boolean"), ("to_regrole", "name", "regrole"), ("array_append", "text[], text", "text[]"),
    ("dblink_send_query", "text, character varying", "integer"), ("dblink_connect", "text, character varying", "text"),
    ("string_to_array", "text, character varying", "text[]"), ("to_jsonb", "text", "jsonb"), ("concat", "text, text", "text"),
    ("greatest_", "integer", "integer"), ("extract", "text, timestamptz", "numeric"), ("pg_has_role", "text, oid, varchar", "boolean"),
)  # fmt: skip


@attack_elsewhere
def functions_found_before_postgresqls_own(arena: Arena) -> str | None:
    """Put functions and operators that match better on every search_path, the schema of dblink too, and call everything."""
    with _sides(arena) as (attacker, owner, known):
        for schema in ("public", "attack", "pg_temp"):
            for name, arguments, result in TRAPS:
                shown = ", ".join(f"${i + 1}::text" for i in range(arguments.count(",") + 1)).replace(
                    "$1::text::text", "$1::text"
                )
                attacker(TRAP.format(schema=schema, name=name, arguments=arguments, result=result, shown=shown))
            for symbol, left, right, result in (("||", "text", "uuid", "text"), ("||", "text", "integer", "text"), ("=", "text", "varchar", "boolean"),
                                                ("->>", "jsonb", "varchar", "text"), ("=", "text", "name", "boolean"), ("~", "text", "varchar", "boolean")):  # fmt: skip
                function = f"trap_{abs(hash((symbol, right))) % 10**8}"
                attacker(
                    TRAP.format(
                        schema=schema, name=function, arguments=f"{left}, {right}", result=result, shown="$1::text, $2::text"
                    )
                )
                attacker(
                    f"create operator {schema}.{symbol} (function = {schema}.{function}, leftarg = {left}, rightarg = {right})"
                )
        attacker("set search_path = attack, public, pg_temp, pg_catalog")
        own = pickle.dumps(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]))
        attacker.seen.clear()
        attacker("select dbml.create_workspace('mine')")
        attacker("select dbml.register_model('own', %s, workspace => 'mine')", (own,))
        attacker("set dbml.workspace = 'mine'")
        for statement in (
            WHO, "select dbml.predict('own', array[1.0]::float8[])", "select * from dbml.models", "select * from dbml.runs",
            "select dbml.set_model_alias('own', 'a', 1)", "select dbml.create_script('s', 'python', 'x = 1')", "select dbml_channel.ping()",
            "select * from dbml.predict_json('own', 'select 1.0::float8 as x')", "select dbml.cancel_script(gen_random_uuid())",
            "select * from dbml.active_scripts", "select dbml_channel.connect()", "select dbml.grant_model('own', 'victim', 'predict')",
            "select dbml.grant_workspace('mine', 'victim', 'reader')", "select dbml.delete_model('own')",
        ):  # fmt: skip
            attacker(statement)
        del owner, known
        got = [line for line in attacker.seen if line.startswith("GOT")]
        return got[0][:200] if got else _learned(attacker)


@attack_elsewhere
def views_and_leaky_functions(arena: Arena) -> str | None:
    """Ask every public view through a cheap function and an operator of one's own that tell of the rows they are shown."""
    with _sides(arena) as (attacker, owner, _):
        attacker(
            "create function attack.leak(text) returns boolean language plpgsql immutable cost 0.0000001"
            " as $$ begin raise notice '%', $1; return true; end $$"
        )
        attacker(
            "create function attack.leak_too(text, text) returns boolean language sql immutable cost 0.0000001 as 'select attack.leak($1)'"
        )
        attacker("create operator attack.@@@ (function = attack.leak_too, leftarg = text, rightarg = text)")
        # Without a cast, which would make it dearer than the view's own condition, and so the second to be asked.
        attacker(
            "create function attack.leak_any(anyelement) returns boolean language plpgsql immutable cost 0.0000001"
            " as $$ begin raise notice '%', $1; return true; end $$"
        )
        views = owner.execute(
            "select c.oid::regclass::text from pg_class c where c.relnamespace = 'dbml'::regnamespace and c.relkind = 'v'"
        )
        for (view,) in views.fetchall():
            attacker(f"select v from {view} v")
            attacker(f"select count(*) from {view} v where attack.leak(v::text)")
            attacker(f"select count(*) from {view} v where v::text operator(attack.@@@) ''")
            attacker(f"create view attack.shown as select * from {view}")
            attacker("select * from attack.shown s where attack.leak(s::text)")
            attacker("drop view attack.shown")
            columns = owner.execute(
                "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0", (view,)
            ).fetchall()
            for (column,) in columns:
                attacker(f'select count(*) from {view} v where attack.leak_any(v."{column}")')
                attacker(f'select 1 / (length(v."{column}"::text) - length(v."{column}"::text)) from {view} v')
                attacker(f'select v."{column}"::text::integer from {view} v')
        return _learned(attacker)


@attack_elsewhere
def every_function_on_anothers_things(arena: Arena) -> str | None:
    """Call every function of dbml and of its channel with the names, numbers and ids of another's things."""
    with _sides(arena) as (attacker, owner, known):
        (theirs,) = owner.execute("select workspace_id from dbml._workspaces where name = 'theirs'").fetchone()  # type: ignore[misc]
        before = _state(owner)
        functions = owner.execute(
            """select n.nspname, p.proname, coalesce(p.proargnames, '{}'), array(select format_type(t, null) from unnest(p.proargtypes) t),
                p.pronargdefaults, p.prokind, p.prorettype = 'record'::regtype and p.proallargtypes is null
            from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('dbml', 'dbml_channel') and p.prokind in ('f', 'p')"""
        ).fetchall()
        named = {"model": "secret", "name": "secret", "workspace": "theirs", "experiment": "theirs", "run_id": known["run"], "run": known["run"],
                 "stored": "script", "role": "attacker", "grantee": "attacker", "privilege": "owner", "wanted": "read", "alias": "a",
                 "script_name": "script", "artifact": "file", "digest": known["digest"], "form": "row", "method": "predict",
                 "input_query": "select 1.0::float8 as x0", "query": "select 1.0::float8 as x0", "target": "attack.target",
                 "message": "wait {}", "version": 1}  # fmt: skip
        for schema, name, arguments, types, defaults, kind, shaped in functions:
            for setting in ({}, {"workspace": "theirs"}):
                for required in {len(types) - defaults, len(types)}:
                    given = [
                        _value(arguments[i] if i < len(arguments) else "", types[i], named, theirs, name) for i in range(required)
                    ]
                    call = f'{schema}."{name}"({", ".join(given)})'
                    attacker("begin")
                    for key, value in setting.items():
                        attacker(f"set local dbml.{key} = '{value}'")
                    attacker("set local statement_timeout = '10s'")
                    attacker(f"call {call}" if kind == "p" else f"select * from {call}" + (" as t(x text)" if shaped else ""))
                    attacker("rollback" if name not in ("grant_workspace", "grant_model", "grant_script") else "commit")
        after = _state(owner)
        return f"changed: {set(before) ^ set(after)}" if before != after else _learned(attacker)


def _value(argument: str, type_: str, named: dict[str, Any], theirs: int, function: str) -> str:
    """Return a literal for an argument: another's thing where its name tells that it is one."""
    if argument == "name" and "script" in function:
        return "'script'"
    if argument == "name" and "workspace" in function:
        return "'theirs'"
    if type_ == "bigint":
        return str(theirs)
    found = named.get(argument)
    plain = {"uuid": known_uuid(named), "jsonb": "{}", "integer": "1", "boolean": "true", "text": "secret", "double precision[]": "{1.0}",
             "text[]": "{}", "bytea": f"\\x{named['digest'] or ''}", "interval": "1 s"}  # fmt: skip
    value = found if found is not None and type_ in ("text", "uuid", "integer", "regrole") else plain.get(type_)
    if type_ == "bytea" and argument == "digest":
        value = f"\\x{named['digest'] or ''}"
    return "null" if value is None else f"'{value}'::{type_}"


def known_uuid(named: dict[str, Any]) -> str:
    """Return the id of the other's run."""
    return str(named["run"])


def _state(owner: psycopg.Connection[Any]) -> list[Any]:
    """Return what the victim's workspace holds, and who may what in it."""
    return owner.execute(
        """select 'model', m.name, m.version::text from dbml._models m join dbml._workspaces w using (workspace_id) where w.name = 'theirs'
        union all select 'grant', g.grantee, g.privilege from dbml._workspace_grants g join dbml._workspaces w using (workspace_id) where w.name = 'theirs'
        union all select 'script', s.name, s.version::text from dbml._scripts s join dbml._workspaces w using (workspace_id) where w.name = 'theirs'
        union all select 'run', r.run_id::text, r.status from dbml._runs r join dbml._workspaces w using (workspace_id) where w.name = 'theirs'
        order by 1, 2, 3"""
    ).fetchall()


@attack_elsewhere
def roles_set_inside_the_input_query(arena: Arena) -> str | None:
    """Become another role within the input query: SET ROLE, set_config, session_authorization, query_to_xml, dblink, COPY."""
    with _sides(arena) as (attacker, owner, _):
        owner.execute("create table if not exists public.payroll (word text); revoke all on public.payroll from public")
        owner.execute("insert into public.payroll values (%s)", (attacker.word,))
        port = arena.targets["postgres_port"]
        try:
            for query in (
                "select set_config('role', 'postgres', true) as x, (select word from public.payroll) as w",
                "select set_config('session_authorization', 'postgres', true) as x, (select word from public.payroll) as w",
                "select query_to_xml('set role postgres', true, true, '')::text as x, query_to_xml('select * from public.payroll', true, true, '')::text as w",
                "set role postgres; select word from public.payroll",
                "select 1 as x); set role postgres; select (select word from public.payroll",
                f"select * from dblink('host={arena.targets['postgres_host']} port={port} user=postgres dbname=postgres', 'select word from public.payroll') as t(w text)",
                "select pg_read_file('/etc/passwd') as x", "select lo_import('/etc/passwd') as x",
                "with x as (insert into dbml._workspaces (name) values ('evil') returning 1) select * from x",
                "select attack.become() as x, (select word from public.payroll) as w",
            ):  # fmt: skip
                attacker(
                    "create or replace function attack.become() returns text language plpgsql as $$ begin execute 'set role postgres'; return current_user; end $$"
                )
                for call in ("select * from dbml.run_script_json('OutputDataSet = InputDataSet', input_query => %s)", "select * from dbml.predict_json('honest', %s)",
                             "select dbml.predict_into('honest', %s, 'attack.target')", "select * from dbml_channel.describe(%s)"):  # fmt: skip
                    attacker("begin")
                    attacker(call, (query,))
                    attacker("rollback")
                    if "attacker" not in attacker("select current_user"):
                        return f"is another role after {query}"
            return _learned(attacker)
        finally:
            owner.execute("drop table public.payroll")


@attack_elsewhere
def wrappers_with_the_rights_of_others(arena: Arena) -> str | None:
    """Call through SECURITY DEFINER functions, of one's own and of the owner's, and pose as their owners."""
    with _sides(arena) as (attacker, owner, _):
        owner.execute(f"create function public.wrapped() returns text language sql security definer as $w$ {WHO} $w$")
        owner.execute(
            "create function public.asked() returns text language sql security definer as 'select dbml_channel.caller()'"
        )
        owner.execute("grant execute on function public.wrapped(), public.asked() to attacker")
        try:
            for call in ("select public.wrapped()", "select public.asked()"):
                if "postgres" in (got := attacker(call)):
                    return f"is taken for the owner: {got[:80]}"
            for clause in ("set role = 'postgres'", "set session_authorization = 'postgres'", "set role = 'victim'"):
                attacker(
                    f"create function attack.posing() returns text language sql security definer {clause} as 'select dbml_channel.caller()'"
                )
                if "postgres" in (got := attacker("select attack.posing()")) and got.startswith("["):
                    return f"is taken for another by {clause}"
                attacker("drop function attack.posing()")
            attacker(
                "create function attack.own() returns text language plpgsql security definer as $$ begin perform set_config('role', 'victim', false); return dbml_channel.caller(); end $$"
            )
            if "victim" in (got := attacker("select attack.own()")) and got.startswith("["):
                return "is taken for another by set_config in a definer function"
            wrong = owner.execute(
                "select username from dbml._runs where session_user_ = 'attacker' and username <> 'attacker'"
            ).fetchall()
            return f"runs as another: {wrong}" if wrong else None
        finally:
            owner.execute("drop function public.wrapped(), public.asked()")


@attack_elsewhere
def private_tables_and_functions(arena: Arena) -> str | None:
    """Read and write every private table, and call every private function."""
    with _sides(arena) as (attacker, owner, _):
        tables = owner.execute(
            "select oid::regclass::text from pg_class where relnamespace = 'dbml'::regnamespace and relkind in ('r', 'S', 'p')"
        )
        for (table,) in tables.fetchall():
            for statement in (f"select * from {table}", f"delete from {table}", f"copy {table} to stdout", f"lock table {table}"):
                if (got := attacker(statement)).startswith("[") or not got:
                    return f"did {statement}"
        private = owner.execute(
            "select p.oid::regprocedure::text, array(select case when t.typtype = 'p' then 'null::integer' else 'null' end"
            " from unnest(p.proargtypes::oid[]) with ordinality a(type, n) join pg_type t on t.oid = a.type order by a.n)"
            " from pg_proc p where p.pronamespace in ('dbml'::regnamespace, 'dbml_channel'::regnamespace)"
            " and p.proname ~ '^_'"
        ).fetchall()
        for signature, values in private:
            got = attacker(f"select {signature.partition('(')[0]}({', '.join(values)})")
            if "42501" not in got and "42725" not in got:
                return f"may call {signature}: {got[:80]}"
        return _learned(attacker)


@attack_elsewhere
def speaking_with_the_worker_directly(arena: Arena) -> str | None:
    """Connect to the worker's listener: without a password, with a guessed one, and past the login."""
    with _sides(arena) as (attacker, owner, _):
        host, port = owner.execute("select host, port from dbml._worker").fetchone()  # type: ignore[misc]
        for user, password in (("dbml", ""), ("dbml", "dbml"), ("postgres", "x"), ("dbml", uuid.uuid4().hex)):
            attacker(
                "select dblink_connect('own', %s)",
                (f"host={host} port={port} user={user} password={password} dbname=dbml sslmode=disable",),
            )
            if "own" in attacker("select dblink_get_connections()"):
                return f"logged in as {user}"
        for message in ("select 1", 'open x {"kind": "ping"}'):
            if attacker(
                "select * from dblink(%s, %s) as t(a text)", (f"host={host} port={port} user=dbml dbname=dbml", message)
            ).startswith("["):
                return "was answered without a login"
        return _learned(attacker)


def _learned(attacker: Session) -> str | None:
    found = [text for text in attacker.seen if attacker.word in text]
    at = found[0].find(attacker.word) if found else 0
    return f"learned the canary: …{found[0][max(0, at - 150) : at + 30]}" if found else None

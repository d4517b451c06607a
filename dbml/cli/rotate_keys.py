"""`dbml rotate-keys`."""

from __future__ import annotations

from typing import Annotated

import psycopg
import typer

from dbml.cli.output import DsnOption, JsonOption, console, print_json
from dbml.dsn import find_dsn
from dbml.store.channel import ROLE


def rotate_keys(
    dsn: DsnOption = None,
    grace: Annotated[
        float, typer.Option(min=0, max=86400, help="Seconds for which the former keys are taken too; 0 where one was stolen.")
    ] = 60.0,
    json: JsonOption = False,
) -> None:
    """Change the password and the signing key that server and worker share.

    The worker hears of it and goes on; no call is lost. Transactions that began before are refused after --grace.
    It does what SELECT dbml.rotate_keys() does, and asks the worker whether it has heard.

    Example: dbml rotate-keys --grace 0
    """
    with psycopg.connect(
        find_dsn(dsn), client_encoding="utf8", autocommit=True, connect_timeout=10, application_name="dbml rotate-keys"
    ) as connection:
        row = connection.execute("select dbml.rotate_keys(make_interval(secs => %s))", [grace]).fetchone()
        assert row is not None
        told, error = True, None
        try:
            connection.execute("select dbml_channel.ping()")
        except psycopg.Error as failed:
            told, error = False, failed.diag.message_primary or str(failed).strip()
        own = connection.execute(
            "select to_regrole(%s || '_' || d.oid)::text from pg_database d where d.datname = current_database()", [ROLE]
        ).fetchone()
    login = own[0] if own else None
    if json:
        print_json({"former_until": row[0].isoformat(), "worker_answers": told, "error": error, "login_of_up": login})
        return
    taken = f"the former ones are taken until {row[0]:%H:%M:%S %Z}" if grace else "the former ones are taken no more"
    console.print(f"password and signing key are changed; {taken}", markup=False, soft_wrap=True)
    answers = "the worker answers to them" if told else f"the worker does not answer: {error}"
    console.print(answers, markup=False, soft_wrap=True)
    if login is not None:
        line = f"the password of {login}, the login of dbml up, is made from the key: restart dbml up to change it too"
        console.print(line, markup=False, soft_wrap=True)

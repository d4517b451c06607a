"""`dbml verify`."""

from __future__ import annotations

from dataclasses import asdict

import typer

from dbml.cli.output import DsnOption, JsonOption, console, print_json
from dbml.dsn import find_dsn


def verify(dsn: DsnOption = None, json: JsonOption = False) -> None:
    """Check server, dblink, schema, worker, password, secret and clock; say what is wrong and how to mend it.

    Exit code 1 when anything is wrong.

    Example: dbml verify --dsn postgresql://owner:password@db.example.com/sales
    """
    from dbml.database import verify as verifier  # imports Alembic, which other commands need not wait for

    checks = verifier.verify(find_dsn(dsn))
    ok = all(check.ok for check in checks)
    if json:
        print_json(
            {
                "ok": ok,
                "checks": [asdict(check) | {"mend": None if check.ok else check.mend} for check in checks],
            }
        )
    else:
        for check in checks:
            line = f"{'ok   ' if check.ok else 'WRONG'}  {check.name}: {check.found}"
            console.print(line, markup=False, soft_wrap=True, style=None if check.ok else "red")
            if not check.ok and check.mend:
                console.print(f"       mend: {check.mend}", markup=False, soft_wrap=True)
    if not ok:
        raise typer.Exit(1)

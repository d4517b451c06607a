"""The command line: one module a noun; parse, call, print.

An error is one line and a hint, exit code 1; DBML_DEBUG=1 shows the traceback as well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import psycopg

from dbml.cli.output import print_error


def main(command: Callable[[], object] | None = None) -> None:
    """Run the command line, or one command of it, and exit."""
    try:
        if command is None:
            from dbml.cli.app import app  # every command's modules; who starts one of them by itself does not wait for those

            command = app
        command()
    except (psycopg.Error, OSError) as error:
        if os.environ.get("DBML_DEBUG") == "1":
            raise
        print_error(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)

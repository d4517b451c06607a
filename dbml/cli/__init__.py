"""The command line: one module a noun; parse, call, print.

An error is one line and a hint, exit code 1; DBML_DEBUG=1 shows the traceback as well.
"""

from __future__ import annotations

import os
import sys

import psycopg

from dbml.cli.app import app
from dbml.cli.output import print_error

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line and exit."""
    try:
        app()
    except (psycopg.Error, OSError) as error:
        if os.environ.get("DBML_DEBUG") == "1":
            raise
        print_error(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)

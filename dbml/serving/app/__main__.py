"""`python -m dbml.serving.app FOLDER`: serve a folder that `dbml export` made. What an image runs."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from dbml.serving.app.problems import ServiceInvalid
from dbml.serving.app.scoring import Limits
from dbml.serving.app.server import Settings, serve

HOW_NOT = "--unsafe-no-sandbox of what serves it leaves that off"


def settings(arguments: list[str] | None = None) -> Settings:
    """Read the command line; each option may be given as a variable, --max-body-mb as DBML_MAX_BODY_MB."""
    parser = argparse.ArgumentParser(
        prog="python -m dbml.serving.app", description="Serve the models of a folder that dbml export made, over HTTP.",
        epilog="Example: python -m dbml.serving.app ./diabetes --port 5001",
    )  # fmt: skip
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path(os.environ.get("DBML_FOLDER", ".")), help="the folder with service.json"
    )
    parser.add_argument("--host", default=_default("host", "127.0.0.1"), help="the address to listen at (127.0.0.1)")
    parser.add_argument("--port", type=int, default=_default("port", "5001"), help="the port to listen at (5001)")
    parser.add_argument("--fd", type=int, help="a listening socket that the parent process gives, instead of --host and --port")
    parser.add_argument("--socket", type=Path, default=_default("socket"), help="a Unix socket to listen at besides")
    parser.add_argument(
        "--keys", type=Path, default=_default("keys"), help="a file of one or two keys, either of which a request must have"
    )
    parser.add_argument("--peer", type=Path, default=_default("peer"), help="a file that says where another version runs")
    parser.add_argument("--threads", type=int, default=_default("threads", "1"), help="calls of score.py at a time (1)")
    parser.add_argument(
        "--queue", type=int, default=_default("queue", "100"), help="requests that may wait or run; more get 503 (100)"
    )
    parser.add_argument(
        "--timeout-s", type=float, default=_default("timeout_s", _scoring_timeout()), help="seconds for an answer (60)"
    )
    parser.add_argument(
        "--max-body-mb", type=float, default=_default("max_body_mb", "100"), help="megabytes of a request's body (100)"
    )
    parser.add_argument(
        "--batch-rows",
        type=int,
        default=_default("batch_rows", "0"),
        help="rows of several requests scored in one call (0: none)",
    )
    parser.add_argument(
        "--batch-delay-ms", type=float, default=_default("batch_delay_ms", "2"), help="how long the first waits for others (2)"
    )
    parser.add_argument(
        "--drain-s", type=float, default=_default("drain_s", "10"), help="seconds for open connections after SIGTERM (10)"
    )
    given = parser.parse_args(arguments)
    for name in ("threads", "queue", "timeout_s", "max_body_mb"):
        if getattr(given, name) <= 0:
            parser.error(f"{name} > 0 must hold, got {name}={getattr(given, name)}")
    limits = Limits(given.threads, given.queue, given.timeout_s, given.batch_rows, given.batch_delay_ms / 1000)
    return Settings(
        given.folder, given.host, given.port, given.fd, given.keys, given.max_body_mb, given.drain_s, limits, given.peer,
        given.socket,
    )  # fmt: skip


def _default(name: str, otherwise: str | None = None) -> str | None:
    return os.environ.get(f"DBML_{name.upper()}", otherwise)


def _scoring_timeout() -> str:
    """Return the seconds of SCORING_TIMEOUT_MS, which azureml's images know."""
    return str(float(os.environ.get("SCORING_TIMEOUT_MS", "60000")) / 1000)


def main(
    arguments: list[str] | None = None, *, confinement: str | None = None, confined: bool = False,
    dialer: socket.socket | None = None,
) -> None:  # fmt: skip
    """Serve, or say why not.

    confinement: what is said of the process' walls in the log; confined: whether it has any.  dialer: who connects for it.
    """
    try:
        serve(settings(arguments), confinement=confinement, confined=confined, dialer=dialer)
    except ServiceInvalid as error:
        print(f"dbml: {error}", file=sys.stderr)
        cause: BaseException | None = error.__cause__
        if cause is not None:
            import traceback

            traceback.print_exception(cause, file=sys.stderr)
        if confined and isinstance(cause, PermissionError):
            print(f"dbml: the scoring app is {confinement}; {HOW_NOT}", file=sys.stderr)
        sys.exit(3)
    except OSError as error:
        print(f"dbml: cannot listen: {error.strerror or error}", file=sys.stderr)
        sys.exit(4)


if __name__ == "__main__":
    main()

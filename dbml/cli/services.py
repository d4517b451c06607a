"""`dbml services`."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from dbml.cli.output import DsnOption, JsonOption, print_json, print_table
from dbml.cli.serve_service import WorkspaceOption
from dbml.cli.worker import stop_at_eof
from dbml.dsn import find_dsn

if TYPE_CHECKING:
    from dbml.core.workspace import Workspace

services = typer.Typer(
    no_args_is_help=True,
    help="List web services (list), print what they print (logs NAME) and their keys (keys NAME), delete them (delete NAME), or"
    " serve on this machine those that nobody serves (serve).\n\n"
    "Example: dbml services list",
)
NameArgument = Annotated[str, typer.Argument(help="The service.")]
_SHOWN = ("name", "state", "models", "image", "target", "scoring_uri", "error")


def _workspace(dsn: str | None, name: str) -> Workspace:
    from dbml.core.connection import Connection
    from dbml.core.workspace import Workspace

    return Workspace._open(Connection(dsn), name)


@services.command("list")
def list_(dsn: DsnOption = None, workspace: WorkspaceOption = "default", json: JsonOption = False) -> None:
    """List the services of a workspace, and how they are.

    Example: dbml services list
    """
    from dbml.store.client import services as stored

    rows = (ws := _workspace(dsn, workspace))._connection.do(stored.list_all, ws.name)
    if json:
        print_json([{key: value for key, value in row.items() if key != "log"} for row in rows])
    else:
        print_table(_SHOWN, ([", ".join(row[key]) if key == "models" else row[key] for key in _SHOWN] for row in rows))


@services.command()
def serve(
    dsn: DsnOption = None,
    unconfined: Annotated[bool, typer.Option("--unconfined", help="Serve also where bubblewrap cannot be used.")] = False,
    until_eof: Annotated[bool, typer.Option("--until-eof", hidden=True)] = False,
) -> None:
    """Serve on this machine every service that nobody serves, as dbml.deploy leaves them, until it is stopped.

    dbml up runs this, dbml worker --services too.

    Example: dbml services serve
    """
    from dbml.cli.looking import look

    if until_eof:
        threading.Thread(target=stop_at_eof, daemon=True).start()
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    look(find_dsn(dsn), stopping, unconfined=unconfined, say=typer.echo)


@services.command()
def logs(name: NameArgument, dsn: DsnOption = None, workspace: WorkspaceOption = "default") -> None:
    """Print the last lines of what a service has printed.

    Example: dbml services logs diabetes
    """
    from dbml.core.webservice import Webservice

    typer.echo(Webservice(_workspace(dsn, workspace), name).get_logs(), nl=False)


@services.command()
def keys(name: NameArgument, dsn: DsnOption = None, workspace: WorkspaceOption = "default") -> None:
    """Print the two keys of a service, to who may write in its workspace.

    Example: dbml services keys diabetes
    """
    from dbml.core.webservice import Webservice

    for key in Webservice(_workspace(dsn, workspace), name).get_keys():
        typer.echo(key)


@services.command()
def delete(name: NameArgument, dsn: DsnOption = None, workspace: WorkspaceOption = "default") -> None:
    """Delete a service: what runs answers what it has begun, and ends.

    Example: dbml services delete diabetes
    """
    from dbml.core.webservice import Webservice

    Webservice(_workspace(dsn, workspace), name).delete()

"""`dbml services`."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from dbml.cli.output import DsnOption, JsonOption, print_json, print_table
from dbml.cli.serve_service import WorkspaceOption
from dbml.cli.worker import Orders
from dbml.dsn import find_dsn

if TYPE_CHECKING:
    from dbml.core.workspace import Workspace

services = typer.Typer(
    no_args_is_help=True,
    help="List web services (list), print what they print (logs NAME) and their keys (keys NAME), delete them (delete NAME), try"
    " another version beside the one that serves (candidate NAME MODEL), let it take over (promote NAME) or go back (rollback"
    " NAME), or serve on this machine those that nobody serves (serve).\n\n"
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
        Orders()
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


@services.command()
def candidate(
    name: NameArgument,
    model: Annotated[str | None, typer.Argument(help="The model that it tries: name, name:3 or name@alias.")] = None,
    image: Annotated[str | None, typer.Option(help="An image instead of a model: name:version.")] = None,
    traffic_percent: Annotated[
        float | None, typer.Option(help="Of the requests, those that it answers.", min=0, max=100)
    ] = None,
    shadow: Annotated[
        bool | None, typer.Option("--shadow/--no-shadow", help="Its answers are compared with the others and not returned.")
    ] = None,
    dsn: DsnOption = None, workspace: WorkspaceOption = "default",
    wait: Annotated[bool, typer.Option(help="Wait until it answers.")] = True,
) -> None:  # fmt: skip
    """Try another version beside the one that serves, by a share of the requests or in its shadow; without one, change the share.

    Example: dbml services candidate diabetes demo-diabetes:2 --traffic-percent 10
    """
    from dbml.core.webservice import Webservice

    service = Webservice(_workspace(dsn, workspace), name)
    service.set_candidate([model] if model else None, image, traffic_percent=traffic_percent, shadow=shadow, wait=wait)  # type: ignore[list-item]


@services.command()
def promote(name: NameArgument, dsn: DsnOption = None, workspace: WorkspaceOption = "default") -> None:
    """Let a service's candidate take over all requests, and wait until it does.

    Example: dbml services promote diabetes
    """
    from dbml.core.webservice import Webservice

    Webservice(_workspace(dsn, workspace), name).promote(wait=True)


@services.command()
def rollback(
    name: NameArgument, generation: Annotated[int | None, typer.Option(help="One of dbml services versions NAME.")] = None,
    dsn: DsnOption = None, workspace: WorkspaceOption = "default",
) -> None:  # fmt: skip
    """Lose a service's candidate; where it has none, go back to what served before. Waits until it does.

    Example: dbml services rollback diabetes
    """
    from dbml.core.webservice import Webservice

    Webservice(_workspace(dsn, workspace), name).rollback(generation, wait=True)


@services.command()
def versions(name: NameArgument, dsn: DsnOption = None, workspace: WorkspaceOption = "default", json: JsonOption = False) -> None:
    """List what a service was asked to serve, the newest first.

    Example: dbml services versions diabetes
    """
    from dbml.core.webservice import Webservice

    shown = ("generation", "role", "models", "image", "created_at", "created_by")
    rows = Webservice(_workspace(dsn, workspace), name).versions
    if json:
        print_json(rows)
    else:
        print_table(shown, ([", ".join(row[key]) if key == "models" else row[key] for key in shown] for row in rows))

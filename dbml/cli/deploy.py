"""`dbml deploy`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from dbml import errors
from dbml.cli.output import DsnOption, console
from dbml.cli.serve_service import WorkspaceOption


def deploy(
    model: Annotated[str | None, typer.Argument(help="The model: name, name:3 or name@alias.")] = None,
    service: Annotated[str | None, typer.Option(help="The service's name; by default the model's.")] = None,
    dsn: DsnOption = None,
    image: Annotated[str | None, typer.Option(help="An image instead of a model: name:version.")] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="What it runs as: process, docker, compose or kubernetes; by default docker where an engine can build here,"
            " else process.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="The port of 127.0.0.1; 0: any that is free.", min=0, max=65535)] = 0,
    auth: Annotated[bool, typer.Option("--auth", help="Ask for a key; dbml services keys NAME shows them.")] = False,
    config: Annotated[str, typer.Option(help="More of its configuration, a JSON object.")] = "{}",
    update: Annotated[bool, typer.Option("--update", help="Let a service that is there serve it.")] = False,
    workspace: WorkspaceOption = "default",
    wait: Annotated[bool, typer.Option(help="Wait until it answers.")] = True,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Serve it from here where nobody does; else dbml services serve does.")
    ] = True,
) -> None:
    """Make a web service of a registered model, on this machine, and print where it answers.

    Example: dbml deploy demo-diabetes --service diabetes
    """
    from dbml.core.connection import Connection
    from dbml.core.webservice.choice import target_for
    from dbml.core.webservice.webservice import Webservice
    from dbml.core.workspace import Workspace
    from dbml.store.client import services

    if (model is None) == (image is None):
        raise errors.InvalidArgument("dbml deploy must be given a model or an image, one of the two")
    name = service or (model or image or "").partition("@")[0].partition(":")[0]
    ws = Workspace._open(Connection(dsn), workspace)
    settings: dict[str, Any] = {**json.loads(config), **({"port": port} if port else {})}
    known = ws._connection.do(services.find, ws.name, name) if update else None
    if known is not None:
        ws._connection.do(services.update, ws.name, name, model=model, image=image, config=settings, auth_enabled=auth or None)
    else:
        ws._connection.do(
            services.deploy, ws.name, name, model=model, image=image, target=target or target_for("Local"), config=settings,
            auth_enabled=auth,
        )  # fmt: skip
    found = Webservice(ws, name)
    if serve:
        found._serve()
    elif found._row["seen_at"] is None:
        console.print(f"{found.name} waits for a machine with dbml services serve", markup=False, soft_wrap=True)
        return
    if wait:
        found.wait_for_deployment()
        console.print(f"{found.name} answers at {found.scoring_uri}", markup=False, soft_wrap=True)

"""The tree of commands: which function answers to which word."""

from __future__ import annotations

from typing import Annotated

import typer

from dbml import __version__
from dbml.cli import (
    dataset,
    demo,
    deploy,
    down,
    experiment,
    export,
    image,
    install,
    model,
    psql,
    rotate_keys,
    runs,
    serve,
    serve_service,
    services,
    status,
    up,
    verify,
    worker,
    workspace,
)

app = typer.Typer(
    name="dbml",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Begin with [bold]dbml demo[/bold]; errors show a traceback with DBML_DEBUG=1.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dbml {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Machine-learning services inside PostgreSQL: train and score from SQL, next to the data."""


app.command()(demo.demo)
app.command()(up.up)
app.command()(down.down)
app.command()(status.status)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(psql.psql)
app.add_typer(runs.runs, name="run")
app.add_typer(model.model, name="model")
app.add_typer(image.image, name="image")
app.add_typer(dataset.dataset, name="dataset")
app.add_typer(experiment.experiment, name="experiment")
app.add_typer(workspace.workspace, name="workspace")
app.command()(export.export)
app.command()(serve.serve)
app.command()(deploy.deploy)
app.add_typer(services.services, name="services")
app.command("serve-service")(serve_service.serve_service)
app.command()(worker.worker)
app.command()(install.install)
app.command()(install.upgrade)
app.command()(verify.verify)
app.command("rotate-keys")(rotate_keys.rotate_keys)

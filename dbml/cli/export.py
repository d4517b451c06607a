"""`dbml export`."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbml import errors
from dbml.cli.output import DsnOption, stderr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbml.core.connection import Connection
    from dbml.serving.export.manifests import Resources
    from dbml.serving.export.plan import Plan

WorkspaceOption = Annotated[
    str | None,
    typer.Option(
        envvar="DBML_WORKSPACE", help="The model's workspace; by default the setting of the database.", show_envvar=False
    ),
]
ScoreOption = Annotated[
    Path | None, typer.Option(help="Your score.py with init() and run(data); by default one is made for the model's format.")
]
SourceOption = Annotated[Path | None, typer.Option(help="The folder that goes along with score.py, which is in it.")]


def export(
    models: Annotated[
        list[str], typer.Argument(help="name (its latest version), name:3 or name@alias; several are served together.")
    ],
    to: Annotated[
        Path | None, typer.Option(help="A folder that docker build takes, and python -m dbml.serving.app serves.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Build this image, by the command docker.")] = None,
    compose: Annotated[Path | None, typer.Option(help="The folder, with a docker-compose.yml that builds and runs it.")] = None,
    kubernetes: Annotated[Path | None, typer.Option(help="A kubernetes.yaml: Deployment, Service, autoscaler.")] = None,
    kserve: Annotated[Path | None, typer.Option(help="A kserve.yaml: an InferenceService.")] = None,
    iot_edge: Annotated[Path | None, typer.Option(help="A deployment manifest of Azure IoT Edge.")] = None,
    github: Annotated[
        Path | None, typer.Option(help="A repository that gets a workflow: train, compare, register, package, deploy.")
    ] = None,
    azure_pipelines: Annotated[Path | None, typer.Option(help="The same, for Azure Pipelines.")] = None,
    query: Annotated[str | None, typer.Option(help="Of a pipeline: the query whose rows it trains on.")] = None,
    label: Annotated[str | None, typer.Option(help="Of a pipeline: the column that is predicted.")] = None,
    service: Annotated[str | None, typer.Option(help="Of a pipeline: the service that it updates.")] = None,
    alias: Annotated[str, typer.Option(help="Of a pipeline: the alias of the version that is the best so far.")] = "champion",
    sql: Annotated[bool, typer.Option("--sql", help="Write it as SQL functions, for any PostgreSQL without dbml.")] = False,
    onnx: Annotated[Path | None, typer.Option(help="An ONNX file, proven to answer as the model does.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="With --sql: a file to write; by default standard output.")
    ] = None,
    wheels: Annotated[bool, typer.Option("--wheels", help="Packages go along, so that the build needs no index.")] = False,
    find_links: Annotated[
        list[str] | None, typer.Option(help="With --wheels: a folder or page of wheels; may be given again.")
    ] = None,
    no_index: Annotated[bool, typer.Option("--no-index", help="With --wheels: take them from --find-links alone.")] = False,
    score: ScoreOption = None,
    source: SourceOption = None,
    environment: Annotated[
        str | None, typer.Option(help="name or name:3; by default the model's own, else one that the worker resolves.")
    ] = None,
    python_version: Annotated[
        str | None, typer.Option(help="3.12, where the environment does not say; by default the worker's.")
    ] = None,
    arrow: Annotated[
        bool, typer.Option("--arrow/--no-arrow", help="Bodies in Arrow's format too; pyarrow is a large package.")
    ] = True,
    python_image: Annotated[str | None, typer.Option(help="With --image: build on this one instead of python:3.x-slim.")] = None,
    name: Annotated[str | None, typer.Option(help="What it is called there; by default as the model.")] = None,
    keep: Annotated[bool, typer.Option("--keep/--no-keep", help="Keep it in dbml.images, so that it can be made again.")] = True,
    memory_mb: Annotated[int, typer.Option(help="Of a manifest: memory.")] = 1024,
    cpu: Annotated[float, typer.Option(help="Of a manifest: processors.")] = 1.0,
    replicas: Annotated[int, typer.Option(help="Of a manifest: how many at least.")] = 1,
    namespace: Annotated[str | None, typer.Option(help="Of a manifest: the namespace.")] = None,
    workspace: WorkspaceOption = None,
    dsn: DsnOption = None,
) -> None:
    """Write a registered model out in another form: a web service as files, image or manifests, SQL functions, or an ONNX file.

    Example: dbml export demo-diabetes --to diabetes --wheels
    """
    wanted = {
        "--to": to,
        "--image": image,
        "--compose": compose,
        "--kubernetes": kubernetes,
        "--kserve": kserve,
        "--iot-edge": iot_edge,
    }
    if github is not None or azure_pipelines is not None:
        _write_pipelines(dsn, models, workspace, github, azure_pipelines, query, label, service or name, alias, environment)
        if not sql and not any(wanted.values()):
            return
    if sql:
        if any(wanted.values()) or len(models) > 1:
            raise errors.InvalidArgument("--sql writes one model, and nothing else", hint=f"dbml export {models[0]} --sql")
        _write_sql(dsn, models[0], name, workspace, output)
        return
    if onnx is not None:
        if any(wanted.values()) or len(models) > 1:
            raise errors.InvalidArgument("--onnx writes one model, and nothing else", hint=f"dbml export {models[0]} --onnx FILE")
        _write_onnx(dsn, models[0], workspace, onnx)
        return
    if not any(wanted.values()):
        raise errors.InvalidArgument("a form must be chosen", hint=f"dbml export {models[0]} --to DIR")
    if (find_links or no_index) and not wheels:
        raise errors.InvalidArgument(
            "--find-links and --no-index are of --wheels", hint=f"dbml export {models[0]} --to DIR --wheels"
        )
    from dbml.serving.export import documents
    from dbml.serving.export.manifests import Resources

    with _connected(dsn) as connection:
        plan = _plan(
            connection, workspace, models, score, source, environment=environment, python_version=python_version, arrow=arrow,
            name=name, keep=keep,
        )  # fmt: skip
        tag = image or documents.image_name(plan)
        resources = Resources(cpu=cpu, memory_mb=memory_mb, replicas=replicas, max_replicas=max(3, replicas))
        links = find_links or []
        for folder in dict.fromkeys(folder for folder in (to, compose) if folder is not None):
            _write(plan, folder, wheels, links, no_index)
        if image is not None:
            _build(plan, image, to or compose, wheels, links, no_index, python_image)
        _write_manifests(plan, tag, resources, namespace, compose, kubernetes, kserve, iot_edge)


def _write_pipelines(
    dsn: str | None, models: Sequence[str], workspace: str | None, github: Path | None, azure: Path | None, query: str | None,
    label: str | None, service: str | None, alias: str, environment: str | None,
) -> None:  # fmt: skip
    """Write a pipeline of one model for either service, or for both."""
    import dbml
    from dbml.serving.export import pipelines
    from dbml.serving.plans import models as registered
    from dbml.store.client import workspaces

    if len(models) != 1 or not query or not label:
        raise errors.InvalidArgument(
            "a pipeline is of one model, and needs --query and --label",
            hint=f"dbml export {models[0]} --github . --query 'TABLE measurements' --label y",
        )
    name = models[0].partition("@")[0].partition(":")[0]
    with _connected(dsn) as connection:
        home = workspace or connection.do_again(workspaces.current)
        try:
            row = registered.find(connection.do_again, home, f"{name}@{alias}")
        except errors.ModelNotFound as error:
            newest = registered.find(connection.do_again, home, name)
            raise errors.ModelNotFound(
                error.message, hint=f"SELECT dbml.set_model_alias('{name}:{newest['version']}', '{alias}')"
            ) from None
    features = [str(feature["name"]) for feature in (row["signature"] or {}).get("features") or []]
    if not features:
        raise errors.InvalidArgument(f"a pipeline needs a model with a signature, {name}@{alias} has none")
    pipeline = pipelines.Pipeline(
        name,
        f"{name}@{alias}",
        features,
        label,
        query,
        service or _service_name(name),
        dbml.__version__,
        alias,
        workspace,
        environment,
    )
    for folder, make in ((github, pipelines.github), (azure, pipelines.azure)):
        if folder is not None:
            try:
                written = pipelines.write(make(pipeline), folder)
            except FileExistsError as error:
                raise errors.InvalidArgument(str(error), hint="git diff") from None
            for path in written:
                typer.echo(path)


def _service_name(model: str) -> str:
    return re.sub("[^a-zA-Z0-9]+", "-", model).strip("-")[:63] or "service"


def _write_sql(dsn: str | None, model: str, name: str | None, workspace: str | None, output: Path | None) -> None:
    from dbml.store.client.models import export_sql

    with _connected(dsn) as connection:
        text = connection.do(export_sql, model, name, workspace)
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


def _write_onnx(dsn: str | None, model: str, workspace: str | None, file: Path) -> None:
    from dbml.store.client.models import export_onnx

    with _connected(dsn) as connection:
        content = connection.do(export_onnx, model, workspace)
    file.write_bytes(content)
    typer.echo(f"{file}: {len(content)} bytes")


def _plan(
    connection: Connection, workspace: str | None, models: Sequence[str], score: Path | None, source: Path | None, *, keep: bool,
    locked: bool = True, **said: Any,
) -> Plan:  # fmt: skip
    """Return the plan of models, or of an image that is kept, kept itself where that is wanted."""
    from dbml.core.transfer import upload
    from dbml.serving.plans import making
    from dbml.store.client import workspaces

    workspace = workspace or connection.do_again(workspaces.current)
    files, entry = ({}, making.GENERATED) if score is None else making.source_of(score, source)
    wish = making.Wish(models, files, entry, **said)
    made = making.make(connection.do_again, workspace, wish, locked=locked, say=_say)
    if not keep:
        return made.plan

    def send(contents: Any) -> None:
        import io

        upload(connection, [io.BytesIO(b"".join(file.read())) for file in contents.values()])

    plan = making.keep(connection.do, workspace, made, upload=send)
    _say(f"image {plan.name}:{plan.version} is in dbml.images")
    return plan


def _write(plan: Plan, folder: Path, wheels: bool, find_links: Sequence[str], no_index: bool) -> None:
    from dbml.serving.export import folder as folders
    from dbml.serving.export.wheels import WheelsMissing, fetch_wheels

    try:
        folders.write(plan, folder, wheels=wheels)
        if wheels:
            fetch_wheels(folder, plan.lock, plan.python_version, find_links=find_links, no_index=no_index, say=_say)
    except (FileExistsError, folders.ContentWrong, WheelsMissing) as error:
        raise errors.InvalidArgument(str(error), hint="dbml export --help") from None
    typer.echo(f"{folder}: docker build -t {plan.dns_name}:{plan.version} {folder}")


def _build(
    plan: Plan, tag: str, folder: Path | None, wheels: bool, find_links: Sequence[str], no_index: bool, python_image: str | None
) -> None:
    from dbml.serving.export.build import BuildFailed, build_image
    from dbml.serving.export.layers import described, layers

    with tempfile.TemporaryDirectory(prefix="dbml-export-") as scratch:
        if folder is None:
            folder = Path(scratch) / plan.dns_name
            with suppress(BrokenPipeError):
                _write(plan, folder, wheels, find_links, no_index)
        try:
            built = build_image(folder, tag, python_image=python_image)
        except BuildFailed as error:
            raise errors.InvalidArgument(str(error), hint=f"dbml export {plan.models[0].reference} --to DIR") from None
    typer.echo(f"{tag}: {built}")
    for line in described(layers(tag)):
        typer.echo(line)


def _write_manifests(
    plan: Plan, tag: str, resources: Resources, namespace: str | None, compose: Path | None, kubernetes: Path | None,
    kserve: Path | None, iot_edge: Path | None,
) -> None:  # fmt: skip
    from dbml.serving.export import documents

    written = []
    if compose is not None:
        written.append(documents.write_compose(plan, compose, tag, resources=resources))
    if kubernetes is not None:
        written.append(documents.write_kubernetes(plan, kubernetes, tag, resources=resources, namespace=namespace))
    if kserve is not None:
        written.append(documents.write_kserve(plan, kserve, tag, resources=resources, namespace=namespace))
    if iot_edge is not None:
        written.append(documents.write_iot_edge(plan, iot_edge, tag, resources=resources))
    for path in written:
        typer.echo(f"{path}: image {tag}")


def _say(text: str) -> None:
    stderr.print(text, markup=False, style="dim")


@contextmanager
def _connected(dsn: str | None) -> Iterator[Connection]:
    from dbml.core.connection import Connection

    connection = Connection(dsn, application="dbml export")
    connection.notice = _say
    try:
        yield connection
    finally:
        connection.close()

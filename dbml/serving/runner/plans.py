"""What a service is made of, read from the database: the plan of its folder."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import psycopg

from dbml import errors
from dbml.serving.export.plan import File, Plan
from dbml.serving.plans import Say, making
from dbml.store.client import submissions

LARGEST_FILE = 1 << 30


def plan_of(
    connection: psycopg.Connection[Any], workspace: str, name: str, wanted: Mapping[str, Any], say: Say = lambda _: None, *,
    locked: bool = False,
) -> Plan:  # fmt: skip
    """Return the plan of a service: an image that is kept, or models with their score.py and the packages that are here.

    wanted: what `report_service` says.  locked: models become an image of the service's name, with a lock, which is kept.
    What the plan's files hold is read from the connection when they are written.
    Raises: DbmlError where that is not enough to serve by.
    """

    def ask(function: Any, *arguments: Any, **options: Any) -> Any:
        return function(connection, *arguments, **options)

    if wanted["image"] is not None:
        return replace(making.of_image(ask, workspace, wanted["image"]), name=name)
    config = wanted["config"]
    source, entry = {}, making.GENERATED
    if config.get("snapshot"):
        source, entry = _source(connection, workspace, config["snapshot"]), str(config.get("entry_script", making.GENERATED))
    wish = making.Wish(wanted["models"], source, entry, name=name, version=str(wanted["generation"]))
    made = making.make(ask, workspace, wish, locked=locked, say=say)
    return making.keep(ask, workspace, made, name=name) if locked else made.plan


def _source(connection: psycopg.Connection[Any], workspace: str, snapshot: str) -> dict[str, File]:
    """Return the files of a snapshot; what is not a file in it is left out."""
    found = {}
    with tempfile.TemporaryFile() as archive:
        for part in submissions.snapshot_parts(connection, workspace, snapshot):
            archive.write(part)
        archive.seek(0)
        with tarfile.open(fileobj=archive) as opened:
            for member in opened:
                content = opened.extractfile(member) if member.isfile() else None
                if content is None:
                    continue
                if member.size > LARGEST_FILE:
                    raise errors.InvalidArgument(f"a file beside score.py must have at most 1 GiB, {member.name!r} has more")
                found[member.name.removeprefix("./")] = File.of(content.read())
    return found

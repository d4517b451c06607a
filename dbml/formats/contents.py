"""Contents: what is in a model's bytes, as rows, without making anything of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dbml import errors
from dbml.formats import onnx, safe
from dbml.formats.picture import Limits
from dbml.formats.walk import walk


def contents_of(content: bytes, format: str, limits: Limits | None = None) -> list[dict[str, Any]]:  # noqa: A002 - the column's name
    """Return a row for each thing that a model's bytes import or hold: module, name, calls, verdict, note.

    A row without module and name is a remark.
    Raises: ModelLoadError where the bytes are not of the format; NotSupportedYet for R's.
    """
    match format:
        case "pickle":
            return [asdict(one) for one in walk(content, limits or Limits())]
        case "safe":
            return safe.types_of(content)
        case "onnx":
            return onnx.types_of(content)
        case "rds":
            raise errors.NotSupportedYet("what a file of R holds cannot be told without loading it")
        case _:
            raise errors.ProtocolMismatch(f"this worker does not know models of format {format!r}", hint="restart the worker")

"""Safe files: skops' format, which makes no object of a type that is not trusted.

A file's types are audited before one of them is imported.  Trusted are those that skops trusts by itself, scikit-learn's
trees, which are checked (`trees`), and what the workspace's policy lists.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

from dbml import errors
from dbml.formats.policy import Policy
from dbml.formats.trees import CHECKED
from dbml.formats.verdicts import TRUSTED, UNTRUSTED

LARGEST_UNPACKED = 4 << 30
MOST_TYPES = 10_000


def dump(model: Any, name: str) -> bytes:
    """Return a model as a safe file.

    Raises: InvalidArgument where it holds what the format cannot; ModuleNotFoundError as `InvalidArgument` without skops.
    """
    io_ = _skops()
    try:
        content: bytes = io_.dumps(model)
    except MemoryError:
        raise
    except Exception as error:
        raise errors.InvalidArgument(
            f'model "{name}" cannot be kept as a safe file: {type(error).__name__}: {error}',
            hint="leave format out to register a pickle",
        ) from error
    return content


def types_of(content: bytes) -> list[dict[str, Any]]:
    """Return the types in a safe file, how often each is there, and whether it is trusted by itself; imports none of them.

    Raises: ModelLoadError where the bytes are no safe file.
    """
    io_ = _skops()
    file = _open(content)
    try:
        schema = json.loads(file.read("schema.json"))
        counts = Counter(_types(schema))
        untrusted = set(io_.get_untrusted_types(data=content)) - set(CHECKED)
    except MemoryError:
        raise
    except Exception as error:  # whatever is wrong with it
        raise errors.ModelLoadError(f"the safe file cannot be read: {_words(error)}") from None
    for full in untrusted:
        counts.setdefault(full, 1)
    rows = []
    for full, count in sorted(counts.items())[:MOST_TYPES]:
        module, _, name = full.rpartition(".")
        rows.append(
            {"module": module, "name": name, "calls": count, "verdict": UNTRUSTED if full in untrusted else TRUSTED, "note": None}
        )
    return rows


def load(content: bytes, policy: Policy, name: str | None = None) -> Any:
    """Make the model of a safe file.

    Raises: ModelRefused where it holds types that are not trusted; ModelLoadError where it cannot be read.
    """
    types = types_of(content)
    policy.check("safe", types, name)
    trusted = [f"{one['module']}.{one['name']}" for one in types if one["verdict"] == UNTRUSTED]
    return _skops().loads(content, trusted=[*CHECKED, *trusted])


def _open(content: bytes) -> zipfile.ZipFile:
    try:
        file = zipfile.ZipFile(io.BytesIO(content))
        names = set(file.namelist())
        size = sum(entry.file_size for entry in file.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, OverflowError) as error:
        raise errors.ModelLoadError(f"the bytes are no safe file: {_words(error)}") from None
    if "schema.json" not in names:
        raise errors.ModelLoadError(
            "the bytes are a zip, but no safe file of skops", hint="run.register_model(name, estimator, format='safe') makes one"
        )
    if size > LARGEST_UNPACKED:
        raise errors.ModelLoadError(f"a safe file may have {LARGEST_UNPACKED} bytes unpacked, got {size}")
    return file


def _types(schema: Any) -> Iterator[str]:
    """Yield the full name of every type that a schema states."""
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            module, name = node.get("__module__"), node.get("__class__")
            if isinstance(module, str) and isinstance(name, str):
                yield f"{module}.{name}"
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"


def _skops() -> Any:
    try:
        import skops.io
    except ImportError:
        raise errors.ModelLoadError(
            "a model of format safe needs the package skops, which is not in this environment",
            hint="pip install 'dbml[worker]' where the worker runs; in an environment of its own, add skops to its specification",
        ) from None
    return skops.io

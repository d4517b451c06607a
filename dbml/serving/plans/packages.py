"""The packages of an image: what a model and the scoring app need, and the lock that they were resolved to.

Resolving is the worker's: `dbml.create_environment` keeps the result.  Of an environment's lock an image takes what its
specification asked for, and not what the worker adds for itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dbml import errors
from dbml.serving.export.plan import PlannedModel
from dbml.serving.export.plan import packages as locked_packages
from dbml.serving.export.score import ARROW, NEEDED
from dbml.serving.plans import Ask, Say
from dbml.serving.plans.models import Seen
from dbml.store.client import environments
from dbml.store.client.rows import Row

_ASKED = "-r specification"  # as the worker names the file when it resolves
_BROUGHT = re.compile(r"\s+#\s{2,}([A-Za-z0-9].*)$")  # a line of what brought a package in
_FRAMEWORKS = {
    "scikitlearn": "scikit-learn", "sklearn": "scikit-learn", "onnx": "onnxruntime", "onnxruntime": "onnxruntime",
    "xgboost": "xgboost", "lightgbm": "lightgbm", "tensorflow": "tensorflow", "pytorch": "torch", "catboost": "catboost",
    "statsmodels": "statsmodels",
}  # fmt: skip
_MODULES = {"sklearn": "scikit-learn"}


def requirements(model: PlannedModel, seen: Seen) -> tuple[list[str], str | None]:
    """Return what a model needs to be loaded, and the one of these whose version is only what somebody said.

    The version of scikit-learn that a pickle bears counts more than the one that it was registered with.
    """
    found: dict[str, str | None] = {}
    framework = _FRAMEWORKS.get(re.sub(r"[^a-z]", "", (model.framework or "").lower()))
    for module in sorted(seen.packages - {"scipy"}):
        found[_MODULES.get(module, module)] = None
    if model.format == "safe":
        found |= {"skops": ">=0.16,<0.17", "scikit-learn": None}
    elif model.format == "onnx":
        found["onnxruntime"] = None
    elif seen.compressed and framework is None:
        found["scikit-learn"] = None
    said = None
    if framework is not None:
        found.setdefault(framework, None)
        # Of an ONNX file the version is that of the format.
        if model.framework_version and framework != "onnxruntime":
            found[framework] = f"=={model.framework_version}"
            said = framework
    if seen.sklearn is not None:
        found["scikit-learn"] = f"=={seen.sklearn}"
        said = None if said == "scikit-learn" else said
    return [f"{name}{wanted or ''}" for name, wanted in sorted(found.items())], said


def lock_for(
    ask: Ask, workspace: str, name: str, needed: Sequence[str], said: str | None, *, environment: str | None = None,
    python_version: str | None = None, arrow: bool = True, say: Say = lambda _: None,
) -> tuple[Row, str]:  # fmt: skip
    """Return the environment of an image, a row of dbml.environments, and those lines of its lock that the image takes.

    environment: the user's or the models' own, which must have what the scoring app needs, or is made anew with it, every
    package in the version that it has there.  Without one, the packages needed are resolved.
    said: of needed, what may be of another version where the one that was said cannot be had.
    Raises: EnvironmentUnresolvable with the resolver's own words; EnvironmentNotFound; WorkerUnreachable.
    """
    app = [*NEEDED, *(ARROW if arrow else ())]
    if environment is not None:
        row = find(ask, workspace, environment)
        lock = asked_for(str(row["lock"]))
        lacking = [requirement for requirement in app if _name(requirement) not in _names(lock)]
        if not lacking:
            return row, lock
        if all(_name(requirement) in _names(str(row["lock"])) for requirement in lacking):  # the worker's own, in its versions
            lock = asked_for(str(row["lock"]), [_name(requirement) for requirement in lacking])
            return row, lock
        say(f"environment {row['name']}:{row['version']} is resolved again with what serves: {', '.join(map(_name, lacking))}")
        pins = [f"{package}=={pinned}" for package, pinned, _ in locked_packages(lock)]
        return _made(ask, workspace, name, [*pins, *app], str(row["python_version"]), say)
    try:
        return _made(ask, workspace, name, [*needed, *app], python_version, say)
    except errors.EnvironmentUnresolvable as error:
        if said is None:
            raise
        here = _installed(said)
        instead = f"{said}=={here}" if here else said
        wanted = next(one for one in needed if _name(one) == said)
        say(f"{wanted} cannot be had, {instead} is taken: {error.message}")
        other = [instead if one == wanted else one for one in needed]
        return _made(ask, workspace, name, [*other, *app], python_version, say)


def find(ask: Ask, workspace: str, reference: str) -> Row:
    """Return an environment by name (the newest) or name:3.

    Raises: EnvironmentNotFound; InvalidArgument.
    """
    name, _, mark = reference.partition(":")
    if mark and not mark.isdecimal():
        raise errors.InvalidArgument(f"an environment's version must be a number, got {mark!r}")
    rows: list[Row] = ask(environments.list_all, workspace, name=name, version=int(mark) if mark else None)
    if not rows:
        raise errors.EnvironmentNotFound(
            f"environment {reference!r} is not in workspace {workspace!r}",
            hint="SELECT workspace, name, version FROM dbml.environments",
        )
    return rows[0]


def asked_for(lock: str, also: Iterable[str] = ()) -> str:
    """Return a lock without what only the worker's own needs brought in, which `# via` tells; else the lock as it is.

    also: packages that are kept with what they need.
    """
    blocks = [block for block in re.split(r"\n(?=[A-Za-z0-9])", lock) if block]
    named = {_name(block): block for block in blocks if re.match(r"[A-Za-z0-9]", block)}
    brought_by = {name: set(_via(block)) for name, block in named.items()}
    wanted = {name for name, via in brought_by.items() if _ASKED in via}
    if not wanted:
        return lock
    wanted |= set(also) & set(named)
    growing = True
    while growing:
        more = {name for name, via in brought_by.items() if name not in wanted and via & wanted}
        growing = bool(more)
        wanted |= more
    kept = [block.rstrip("\n") for block in blocks if _name(block) in wanted or not re.match(r"[A-Za-z0-9]", block)]
    lines = "\n".join(kept).splitlines()
    return "\n".join(line for line in lines if not ((by := _BROUGHT.match(line)) and _name(by[1]) not in wanted)) + "\n"


def _via(block: str) -> list[str]:
    """Return what brought a package in, of the comment that uv writes: `# via x`, or a line each after `# via`."""
    found, on = [], False
    for line in block.splitlines():
        text = line.strip()
        if text.startswith("# via"):
            on = True
            text = text.removeprefix("# via").strip()
        elif on and text.startswith("#"):
            text = text.removeprefix("#").strip()
        else:
            on = False
            continue
        if text:
            found.append(text if text.startswith("-r") else _name(text))
    return found


def _made(ask: Ask, workspace: str, name: str, needed: Sequence[str], python_version: str | None, say: Say) -> tuple[Row, str]:
    say(f"resolving {', '.join(needed[:4])}{' …' if len(needed) > 4 else ''}")
    called = f"image-{name}"[:255]
    made: Any = ask(environments.create, workspace, called, "\n".join(needed) + "\n", python_version=python_version)
    row = find(ask, workspace, f"{called}:{made}")
    return row, asked_for(str(row["lock"]))


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement.strip())
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def _names(lock: str) -> set[str]:
    return {_name(name) for name, _, _ in locked_packages(lock)}


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

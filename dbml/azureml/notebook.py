"""A notebook's code cells, run one after the other in one namespace, as far as they are Python.

What is not (%magic lines, !commands) is left out and reported, but for a %%time or %%capture at a cell's head, whose
cell runs, and %%writefile, whose file is written.  A cell's last expression is printed, as a notebook shows it.
"""

from __future__ import annotations

import ast
import json
import linecache
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dbml.azureml.report import REPORT

_HARMLESS = ("%%time", "%%timeit", "%%capture", "%matplotlib", "%config", "%load_ext", "%autoreload", "%reload_ext")


class NotANotebook(Exception):
    """The file is no Jupyter notebook, version 4."""


def cells(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and source of the code cells.

    Raises: NotANotebook.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        found = told["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise NotANotebook(f"{path} must be a Jupyter notebook of version 4: {type(error).__name__}: {error}") from None
    for number, cell in enumerate(found, start=1):
        if cell.get("cell_type") == "code":
            source = cell.get("source", "")
            yield number, source if isinstance(source, str) else "".join(source)


def python_of(source: str, number: int) -> str:
    """Return a cell's Python; what is not becomes a comment, in its line, and is reported."""
    lines = source.splitlines()
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("%%") and not first.startswith(_HARMLESS):
        REPORT.left_out.append(f"cell {number}: {first}")
        return "\n".join("# " + line for line in lines)
    kept = []
    for line in lines:
        plain = line.strip()
        if plain.startswith(("%", "!")) or (plain.startswith("?") or (plain.endswith("?") and plain[:-1].isidentifier())):
            if not plain.startswith(_HARMLESS):
                REPORT.left_out.append(f"cell {number}: {plain}")
            indent = line[: len(line) - len(line.lstrip())]
            kept.append(f"{indent}pass  # {plain}")
        else:
            kept.append(line)
    return "\n".join(kept)


def write_file(source: str, namespace: Mapping[str, Any]) -> bool:
    """Write the file of a cell that begins with %%writefile; returns whether it does.

    $name and {expression} in the path are the notebook's own; -a appends.
    Raises: OSError; NameError for what the path names.
    """
    head, _, text = source.lstrip("\n").partition("\n")
    magic, *words = head.split(maxsplit=2 if "-a" in head.split() else 1) or [""]
    if magic not in ("%%writefile", "%%file"):
        return False
    append = words[:1] in (["-a"], ["--append"])
    (path,) = words[append:] or [""]
    path = re.sub(
        r"\{([^{}]+)\}|\$(\w+)", lambda found: str(eval(found[1] or found[2], dict(namespace))), path.strip().strip("\"'")
    )
    with Path(path).expanduser().open("a" if append else "w", encoding="utf-8") as file:
        file.write(text if text.endswith("\n") else text + "\n")
    print(f"{'Appending to' if append else 'Writing'} {path}")
    return True


def run(path: Path, namespace: dict[str, Any]) -> None:
    """Run a notebook's cells; the first error ends it, and its traceback names cell and line."""
    for number, source in cells(path):
        if write_file(source, namespace):
            continue
        text = python_of(source, number)
        name = f"{path.name}[cell {number}]"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        tree = ast.parse(text, filename=name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        shows = last is not None and not text.rstrip().endswith(";")
        exec(compile(tree, name, "exec"), namespace)
        if last is not None:
            assert isinstance(last, ast.Expr)
            value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
            if shows and value is not None:
                print(value)
        sys.stdout.flush()


def display(*values: Any, **_: Any) -> None:
    """Print what a notebook would display."""
    for value in values:
        print(value)

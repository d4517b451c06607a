"""A Python function as the text of a script: its source, the modules that it names, and the call of it.

A function is shipped as it stands in its file; what it uses must be its own, a parameter, or an imported module.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any

from dbml import errors


def as_script(function: Callable[..., Any], inputs: Collection[str], params: Collection[str]) -> str:
    """Return a script that runs a function and keeps what it returns as OutputDataSet.

    inputs, params: names of variables that the script will have.  A parameter of one of these names gets that variable,
    one called run the run; the first other one gets InputDataSet, where there is such an input.
    Raises: InvalidArgument where the function cannot be shipped, or a parameter would get nothing.
    """
    name = getattr(function, "__name__", "")
    if not inspect.isfunction(function) or not name.isidentifier():
        raise errors.InvalidArgument(
            f"a script must be text or a function with a name, got {function!r}",
            hint="def f(frame): ..., then run_script(f, ...)",
        )
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        raise errors.InvalidArgument(f"the source of {name} must be in a file or a notebook's cell, and is not found") from None
    return "\n".join([*_imports(function), source.rstrip(), "", _call(function, inputs, params), ""])


def _imports(function: Callable[..., Any]) -> list[str]:
    used = inspect.getclosurevars(function)
    if used.nonlocals:
        raise errors.InvalidArgument(
            f"a function must bring all that it uses to be shipped, {function.__name__} uses {', '.join(sorted(used.nonlocals))}",
            hint="give it as a parameter: run_script(f, params={...})",
        )
    lines, others = ["from __future__ import annotations"], []
    for name, value in sorted(used.globals.items()):
        if isinstance(value, ModuleType):
            lines.append(f"import {value.__name__} as {name}" if value.__name__ != name else f"import {name}")
        elif getattr(value, "__module__", None) in (None, "__main__", function.__module__) or not hasattr(value, "__qualname__"):
            others.append(name)
        else:
            lines.append(f"from {value.__module__} import {value.__qualname__} as {name}")
    if others:
        raise errors.InvalidArgument(
            f"a function must bring all that it uses to be shipped, {function.__name__} uses {', '.join(others)}",
            hint="define it inside the function, or give it as a parameter",
        )
    return lines


def _call(function: Callable[..., Any], inputs: Collection[str], params: Collection[str]) -> str:
    given: list[str] = []
    free = [name for name in inputs if name == "InputDataSet"]
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name in inputs or parameter.name in params or parameter.name == "run":
            value = parameter.name
            free = [name for name in free if name != value]
        elif free:
            value = free.pop()
        elif parameter.default is not parameter.empty:
            continue
        else:
            raise errors.InvalidArgument(
                f"each parameter must get a value, {function.__name__} has {parameter.name!r}, and given are"
                f" {', '.join([*inputs, *params]) or 'none'}",
                hint=f"run_script({function.__name__}, params={{'{parameter.name}': ...}})",
            )
        given.append(value if parameter.kind is parameter.POSITIONAL_ONLY else f"{parameter.name}={value}")
    return f"OutputDataSet = {function.__name__}({', '.join(given)})"

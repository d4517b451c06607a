"""The finder: `import azureml.a.b` finds `dbml.a.b`, the very same classes, behind a module that counts their use.

A module or name that is not there becomes a placeholder, so that a program comes as far as it can.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from dbml import __version__
from dbml.azureml.differences import DIFFERENCES, instead_of
from dbml.azureml.placeholders import placeholder
from dbml.azureml.report import REPORT
from dbml.core import absent, stand_in, submission

THEIRS, OURS = "azureml", "dbml"
# What azureml's packages have under names that are ours; all else under azureml is not there.
ROOMS = ("core", "data", "widgets", "exceptions", "train", "pipeline", "contrib", "mlflow")
_counted: set[type] = set()


class _Alias(ModuleType):
    """azureml.a.b: its names are dbml.a.b's."""

    def __init__(self, name: str, real: ModuleType | None) -> None:
        super().__init__(name, None if real is None else real.__doc__)
        self.__dict__["_real"] = real
        self.__path__ = []
        for own in ("__all__", "VERSION"):
            if real is not None and own in vars(real):
                self.__dict__[own] = vars(real)[own]

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            return __version__
        if name.startswith("__"):
            raise AttributeError(name)
        full = f"{self.__name__}.{name}"
        real = self.__dict__["_real"]
        try:
            if real is None:  # azureml itself; import azureml.core brings azureml.data along
                found = importlib.import_module(full) if _real(full) is not None else getattr(real, name)
            else:
                found = getattr(real, name)
        except (AttributeError, NotImplementedError) as error:
            found = placeholder(full)
            if isinstance(error, NotImplementedError) and not instead_of(full):
                REPORT.lacks(full, str(error))
        else:
            if (instead := absent.instead_of(found)) is not None:
                REPORT.lacks(full, instead)
            elif not isinstance(found, ModuleType):
                REPORT.used(full)
                if isinstance(found, type):
                    count_calls(found)
        self.__dict__[name] = found
        return found

    def __dir__(self) -> list[str]:
        real = self.__dict__["_real"]
        return sorted({*super().__dir__(), *(dir(real) if real is not None else ())})


class _Loader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Make the alias of a module."""
        return _Alias(spec.name, _real(spec.name))

    def exec_module(self, module: ModuleType) -> None:
        """Tell of a module that is not there."""
        if module.__dict__["_real"] is None and module.__name__.count(".") > 0:
            REPORT.lacks(module.__name__, instead_of(module.__name__))


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find what is under azureml, and nothing else."""
        if fullname != THEIRS and not fullname.startswith(f"{THEIRS}."):
            return None
        if fullname.count(".") > 1 and _real(fullname) is None and _is_class(fullname):
            return None
        REPORT.due()
        return ModuleSpec(fullname, _Loader(), is_package=True)


def install() -> None:
    """Answer imports of azureml from now on, before any package of that name that is installed; in submitted scripts too."""
    submission.VARIABLES[submission.IMPORT] = "dbml.azureml"
    if REPORT.stood_in not in stand_in.listeners:
        stand_in.listeners.append(REPORT.stood_in)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _real(name: str) -> ModuleType | None:
    """Return dbml's module for a name under azureml; None where there is none."""
    parts = name.split(".")
    if len(parts) == 1:
        return None
    if parts[1] not in ROOMS:
        return None
    wanted = ".".join([OURS, *parts[1:]])
    try:
        return importlib.import_module(wanted)
    except ModuleNotFoundError as error:
        if error.name is not None and (wanted == error.name or wanted.startswith(f"{error.name}.")):
            return None
        raise  # a package that the module itself needs


def _is_class(name: str) -> bool:
    """Tell whether the last part of a name is a class of its module: `import azureml.core.Workspace` is an error there too."""
    parent, _, last = name.rpartition(".")
    real = _real(parent)
    return real is not None and last[:1].isupper()


def count_calls(cls: type) -> None:
    """Have the report count calls of a class's public functions from outside dbml."""
    for base in inspect.getmro(cls):
        if base in _counted or not base.__module__.startswith(f"{OURS}."):
            continue
        _counted.add(base)
        for name, member in list(vars(base).items()):
            if name.startswith("_") and not (name == "__init__" and base.__name__ in DIFFERENCES):
                continue
            if isinstance(member, staticmethod):
                setattr(base, name, staticmethod(_counting(member.__func__, name, base)))
            elif isinstance(member, classmethod):
                setattr(base, name, classmethod(_counting(member.__func__, name)))
            elif inspect.isfunction(member):
                setattr(base, name, _counting(member, name))


def _counting(function: Callable[..., Any], name: str, of: type | None = None) -> Callable[..., Any]:
    """Wrap a function of a class; of: the class, where the first argument does not tell."""

    @functools.wraps(function)
    def counted(*arguments: Any, **options: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if not str(caller).startswith(f"{OURS}."):
            cls = of or (arguments[0] if isinstance(arguments[0], type) else type(arguments[0]))
            shown = cls.__name__ if name == "__init__" else f"{cls.__name__}.{name}"
            REPORT.used(shown)
            try:
                return function(*arguments, **options)
            except NotImplementedError as error:
                del REPORT.answered[shown]
                REPORT.lacks(shown, str(error))
                raise
        return function(*arguments, **options)

    return counted

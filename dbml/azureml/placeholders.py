"""Placeholders for names that are not there: they can be imported, and say what is there when they are used."""

from __future__ import annotations

from typing import Any, NoReturn

from dbml.azureml.differences import instead_of
from dbml.azureml.report import REPORT


class _Meta(type):
    """Makes class-level uses of a placeholder, Class.function(…), say it too."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _refuse(f"{cls.__qualname__}.{name}")

    def __instancecheck__(cls, instance: object) -> bool:
        return False  # nothing is one, so that isinstance(run, PipelineRun) may be asked


class Missing(metaclass=_Meta):
    """Base of the placeholders."""

    def __new__(cls, *_: object, **__: object) -> NoReturn:
        """Refuse to be made.

        Raises: NotImplementedError, which says what is there.
        """
        _refuse(cls.__qualname__)


def placeholder(name: str) -> type:
    """Return a class in the place of azureml.a.b.Name; of an error's name an exception, which is never raised."""
    REPORT.lacks(name, instead_of(name))
    if name.endswith(("Error", "Exception")):
        return type(name.rpartition(".")[2], (Exception,), {"__module__": name.rpartition(".")[0]})
    return _Meta(name.rpartition(".")[2], (Missing,), {"__module__": name.rpartition(".")[0], "__qualname__": name})


def _refuse(name: str) -> NoReturn:
    instead = instead_of(name)
    raise NotImplementedError(f"{name} is not there" + (f"; what is: {instead}" if instead else ""))

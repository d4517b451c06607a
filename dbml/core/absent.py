"""Classes that are not there: they can be imported and asked for by isinstance, and say what is there when they are used."""

from __future__ import annotations

from typing import Any, NoReturn


class _Absent(type):
    """Makes class-level uses say it too."""

    instead: str

    def __call__(cls, *_: object, **__: object) -> NoReturn:
        """Refuse to make one.

        Raises: NotImplementedError, which says what is there.
        """
        _refuse(cls.__name__, cls.instead)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        _refuse(f"{cls.__name__}.{name}", cls.instead)


def absent(module: str, names: str, instead: str) -> dict[str, type]:
    """Return classes by name that refuse; instead: what is there in their place."""
    return {
        name: _Absent(
            name,
            (),
            {"__module__": module, "__doc__": f"Not there, and says what is when it is used.\n\n{instead}", "instead": instead},
        )
        for name in names.split()
    }


def instead_of(found: object) -> str | None:
    """Return what is there in the place of such a class; None for anything else."""
    return found.instead if isinstance(found, _Absent) else None


def _refuse(name: str, instead: str) -> NoReturn:
    raise NotImplementedError(f"{name} is not there; what is: {instead}")

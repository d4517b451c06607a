"""Errors as MLflow's callers expect them: MlflowException with a code, and in its text what to do."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import psycopg
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    NOT_IMPLEMENTED,
    PERMISSION_DENIED,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
)

from dbml import errors
from dbml.exceptions import ModelNotFoundException, UserErrorException

_Class = TypeVar("_Class", bound=type)
_CODES: tuple[tuple[type[Exception], int], ...] = (
    (errors.RunNotFound, RESOURCE_DOES_NOT_EXIST),
    (errors.NothingFound, RESOURCE_DOES_NOT_EXIST),
    (errors.ModelNotFound, RESOURCE_DOES_NOT_EXIST),
    (ModelNotFoundException, RESOURCE_DOES_NOT_EXIST),
    (errors.InvalidArgument, INVALID_PARAMETER_VALUE),
    (UserErrorException, INVALID_PARAMETER_VALUE),
    (psycopg.errors.InsufficientPrivilege, PERMISSION_DENIED),
)


def translating(cls: _Class) -> _Class:
    """Have the public methods of a class raise MlflowException for what dbml and the database raise."""
    for name, member in list(vars(cls).items()):
        if inspect.isfunction(member) and (not name.startswith("_") or name in ("__init__", "_search_runs", "_download_file")):
            setattr(cls, name, _translated(member))
    return cls


def _translated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except (errors.DbmlError, psycopg.Error) as error:
            raise MlflowException(_text(error), _code(error)) from error

    return call


def _code(error: Exception) -> int:
    return next((code for kind, code in _CODES if isinstance(error, kind)), INTERNAL_ERROR)


def _text(error: Exception) -> str:
    if isinstance(error, errors.DbmlError):
        return f"{error.message} ({error.hint})" if error.hint else str(error.message)
    return str(error).strip()


def missing(what: str) -> MlflowException:
    """Return the error for what is not there."""
    return MlflowException(what, RESOURCE_DOES_NOT_EXIST)


def wrong(what: str) -> MlflowException:
    """Return the error for a value that is not taken."""
    return MlflowException(what, INVALID_PARAMETER_VALUE)


def taken(what: str) -> MlflowException:
    """Return the error for a name that is taken."""
    return MlflowException(what, RESOURCE_ALREADY_EXISTS)


def refuse(what: str) -> NoReturn:
    """Refuse what dbml does not have.

    Raises: MlflowException.
    """
    raise MlflowException(what, NOT_IMPLEMENTED)

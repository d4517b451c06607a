"""What stands in for an environment that cannot be had: the worker's own packages, where somebody wants to be told of it.

A program that was written for another service names environments of that service's, and versions of Python that nobody has
any more.  Where nobody listens, such an environment is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dbml import errors

CURATED = "AzureML-"  # how the names begin of environments that the cloud had for everybody

listeners: list[Callable[[str, Exception], object]] = []


def stands_in(environment: str, error: Exception) -> bool:
    """Tell the listeners that the worker's packages stand in for an environment; False where there are none."""
    for told in listeners:
        told(environment, error)
    return bool(listeners)


def is_curated(name: str) -> bool:
    """Tell whether a name is that of an environment of the cloud's, for which the worker's packages stand in."""
    return name.startswith(CURATED) and stands_in(name, errors.EnvironmentNotFound("it is one of the cloud's own"))


def had(environment: str, get: Callable[[], Any]) -> Any:
    """Return what get returns, None where the environment cannot be resolved and the worker's packages stand in.

    Raises: EnvironmentUnresolvable where nobody listens.
    """
    try:
        return get()
    except errors.EnvironmentUnresolvable as error:
        if not stands_in(environment, error):
            raise
        return None

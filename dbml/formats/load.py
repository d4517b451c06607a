"""Load: make a model of its bytes, by the format under which it is registered and no other.

Unpickling runs what the pickle says; this belongs into a sandboxed process.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

from dbml import errors
from dbml.formats import onnx, safe
from dbml.formats.policy import Policy
from dbml.formats.trees import check_trees
from dbml.formats.verdicts import HARMLESS, verdict_of


def load(content: bytes, format: str, policy: Policy, name: str | None = None) -> Any:  # noqa: A002 - the column's name
    """Return the model that is called name; raises whatever its bytes make Python raise, ModelRefused among it."""
    if format == "safe":
        model = safe.load(content, policy, name)
        check_trees(model)
        return model
    if format == "onnx":
        return onnx.session(content)
    if format != "pickle":
        raise errors.ModelLoadError(f"a model of format {format} cannot be loaded in Python", hint="load it in R: run$load_model")
    if policy.types is None:
        return _unpickle(content)
    return _Guarded(content, policy).load()


def _unpickle(content: bytes) -> Any:
    """Return what a pickle holds: one of pickle or cloudpickle, or of joblib, whose arrays stand between opcodes."""
    try:
        return pickle.loads(content)
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, IndexError):
        import joblib

        try:
            return joblib.load(io.BytesIO(content))
        except Exception as error:  # of two errors the first says more
            del error
        raise


class _Guarded(pickle.Unpickler):
    """Imports nothing that the policy does not allow.

    What a model imports was told from its opcodes before; this holds where a name is computed, and where an allowed
    package has something of another package's.
    """

    def __init__(self, content: bytes, policy: Policy) -> None:
        super().__init__(io.BytesIO(content))
        self._policy = policy

    def find_class(self, module: str, name: str) -> Any:
        policy = self._policy
        if not policy.allows(module, name):
            raise errors.ModelRefused(f"the workspace's policy does not allow {module}.{name}")
        found = super().find_class(module, name)
        if verdict_of(module, name) != HARMLESS and not policy.lists(module, name):
            home = getattr(found, "__module__", None)
            if not isinstance(home, str) or not policy.covers(home):
                raise errors.ModelRefused(f"the workspace's policy does not allow {module}.{name}, which is {home}'s")
        return found

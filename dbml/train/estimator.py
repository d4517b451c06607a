"""Estimators of the SDK are not there; their names say what is."""

from __future__ import annotations

from dbml.core.absent import absent

_INSTEAD = "ScriptRunConfig with an Environment"

globals().update(absent(__name__, "Estimator Mpi", _INSTEAD))

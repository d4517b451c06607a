"""Automated choice of a model is not there; its names say what is."""

from __future__ import annotations

from dbml.core.absent import absent

_INSTEAD = "choose estimators in a script that is submitted, and compare its child runs: run.child_run(), Experiment.compare()"

globals().update(absent(__name__, "AutoMLConfig", _INSTEAD))

"""The estimator of scikit-learn is not there; its name says what is."""

from __future__ import annotations

from dbml.core.absent import absent

_INSTEAD = "ScriptRunConfig with an Environment"

globals().update(absent(__name__, "SKLearn", _INSTEAD))

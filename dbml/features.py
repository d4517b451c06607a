"""Features by name: what a model was trained on, and where that is among columns.

LightGBM writes an underscore for each space in a name, and forgets how the name was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def signature_features(signature: Mapping[str, Any] | None) -> list[str]:
    """Return the names of features that a signature has, as dbml.models keeps it; none where it has none."""
    return [str(feature["name"]) for feature in (signature or {}).get("features") or []]


def feature_names(known: Sequence[str] | None, said: Sequence[str] | None) -> list[str] | None:
    """Return the names of a model's features in training; None where nobody knows them.

    known: those that the model itself has; said: those of its signature, which count where it has none, or where they
    are the same but for their spaces.
    """
    if said and (not known or _without_spaces(said) == list(known)):
        return list(said)
    return list(known) if known else None


def feature_places(features: Sequence[str], columns: Sequence[str]) -> list[int | None]:
    """Return the place of each feature among columns, from 0; None where it is not there.

    A column has the feature's name, or else the name that becomes the feature's with underscores for its spaces, and is the
    only one.  (In SQL, dbml_channel.feature_places says the same.)
    """
    plain = _without_spaces(columns)
    return [
        columns.index(name) if name in columns else plain.index(name) if plain.count(name) == 1 else None for name in features
    ]


def _without_spaces(names: Sequence[str]) -> list[str]:
    return [name.replace(" ", "_") for name in names]

"""Features by name, where spaces have become underscores."""

from __future__ import annotations

import pandas as pd
import pytest
from lightgbm import LGBMRegressor
from sklearn.linear_model import Ridge

from dbml.features import feature_names, feature_places
from dbml.worker.run import describe

FRAME = pd.DataFrame({"sepal length (cm)": [1.0, 2.0, 3.0], "b": [0.0, 1.0, 0.0]})


@pytest.mark.parametrize(
    ("features", "columns", "places"),
    [
        (["a", "b"], ["b", "a"], [1, 0]),
        (["a_b"], ["a b"], [0]),
        (["a_b"], ["a b", "a_b"], [1]),  # the name itself comes first
        (["a_b_c"], ["a b_c", "a_b c"], [None]),  # either might be meant
        (["a_b"], ["ab"], [None]),
        (["a b"], ["a_b"], [None]),  # the other way round nobody has asked for
        (["a"], [], [None]),
    ],
)
def test_a_column_has_the_features_name_or_one_with_spaces(
    features: list[str], columns: list[str], places: list[int | None]
) -> None:
    assert feature_places(features, columns) == places


def test_the_signature_tells_what_the_model_has_forgotten() -> None:
    assert feature_names(["a_b", "c"], ["a b", "c"]) == ["a b", "c"]
    assert feature_names(["a_b", "c"], ["c", "a b"]) == ["a_b", "c"]  # of another order, it is of something else
    assert (
        feature_names(["a_b", "c"], []) == ["a_b", "c"]
        and feature_names(None, ["x"]) == ["x"]
        and feature_names(None, []) is None
    )


def test_a_sample_of_the_input_brings_the_names_back() -> None:
    model = LGBMRegressor(n_estimators=1, verbose=-1).fit(FRAME, [1.0, 2.0, 3.0])
    assert list(model.feature_names_in_) == ["sepal_length_(cm)", "b"]
    told = [{"name": "sepal length (cm)", "type": "double precision"}, {"name": "b", "type": "double precision"}]
    assert (describe(model, FRAME) or {})["features"] == told
    assert (describe(model, FRAME.assign(target=1)) or {})["features"] == told
    assert (describe(model) or {})["features"] == [{"name": "sepal_length_(cm)"}, {"name": "b"}]
    unnamed = Ridge().fit([[0.0], [1.0]], [0.0, 1.0])
    assert "features" not in (describe(unnamed) or {}) and (describe(unnamed, FRAME) or {})["features"] == told

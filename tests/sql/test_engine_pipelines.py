"""Random pipelines of all kinds of steps answer as their pickles do."""

from __future__ import annotations

from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import psycopg
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    Lasso,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import LinearSVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBRegressor

from .engine_models import (
    FLOWER_GAPS,
    GAPS,
    IS_FIRST,
    MIXED,
    MIXED_TARGET,
    NAMES,
    SPECIES,
    Y,
    certificate,
    check,
    fitted,
    register,
)


@pytest.mark.once
@hypothesis.given(st.data())
@hypothesis.settings(
    max_examples=40,
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_random_pipelines_answer_as_their_pickles_do(db: psycopg.Connection[Any], data: st.DataObject) -> None:
    """Of all kinds of steps: numbers with gaps, or text and numbers with gaps; to a number, or to labels of any type."""
    text, numeric = data.draw(st.booleans()), data.draw(st.booleans())
    if text:
        encoder = data.draw(st.sampled_from([OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
            OneHotEncoder(max_categories=2, handle_unknown="infrequent_if_exist", sparse_output=False)]))  # fmt: skip
        first: Any = make_column_transformer(
            (encoder, ["colour", "size"]), (SimpleImputer(add_indicator=data.draw(st.booleans())), ["x", "y"])
        )
        rows, target = MIXED, (MIXED_TARGET if numeric else data.draw(st.sampled_from(
            [MIXED_TARGET.to_numpy() > 0, np.digitize(MIXED_TARGET, [-500, 500]), np.array(["low", "it's", "Ω"])[np.digitize(MIXED_TARGET, [-500, 500])]])))  # fmt: skip
    else:
        first = SimpleImputer(strategy=data.draw(st.sampled_from(["mean", "median"])), add_indicator=data.draw(st.booleans()))
        rows, target = (GAPS, Y) if numeric else (FLOWER_GAPS, data.draw(st.sampled_from([SPECIES, NAMES, IS_FIRST])))
    steps = [
        first,
        *data.draw(st.lists(st.sampled_from([StandardScaler(), RobustScaler(), MinMaxScaler(), MaxAbsScaler()]), max_size=2)),
        *data.draw(st.lists(st.sampled_from([PCA(3), SelectKBest(k=3), PolynomialFeatures(2), KBinsDiscretizer(3, encode="onehot-dense")]), max_size=1)),
        data.draw(st.sampled_from(
            [Ridge(), Lasso(), DecisionTreeRegressor(max_depth=4), RandomForestRegressor(4, max_depth=3), LinearSVR(),
             GradientBoostingRegressor(n_estimators=4), HistGradientBoostingRegressor(max_iter=3), PoissonRegressor(),
             XGBRegressor(n_estimators=4, max_depth=3, n_jobs=1), LGBMRegressor(n_estimators=4, n_jobs=1, verbose=-1)]
            if numeric else
            [LogisticRegression(), RandomForestClassifier(4, max_depth=3), GradientBoostingClassifier(n_estimators=3),
             HistGradientBoostingClassifier(max_iter=3), RidgeClassifier(), GaussianNB(), DecisionTreeClassifier(max_depth=3),
             CalibratedClassifierCV(RidgeClassifier(), cv=2), LGBMClassifier(n_estimators=3, n_jobs=1, verbose=-1),
             VotingClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier(max_depth=3))], voting="soft")])),
    ]  # fmt: skip
    if numeric and type(steps[-1]).__name__ == "PoissonRegressor":
        target = np.abs(np.asarray(target)) / 100
    model = fitted(make_pipeline(*steps), rows, target)
    db.execute("BEGIN")
    try:
        name = register(db, model)
        assert certificate(db, name)[:2] == ("certified", None)
        check(db, name, model, rows[:20])
    finally:
        db.execute("ROLLBACK")

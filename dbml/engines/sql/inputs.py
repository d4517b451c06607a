"""What a model's inputs are: which are text, told by the encoders and imputers that they go to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dbml.engines.sql.encoders import is_text
from dbml.engines.sql.expressions import Kind


def kinds(estimator: Any, width: int) -> list[Kind]:
    """Return the kind of each of the inputs of a fitted estimator."""
    found: set[int] = set()
    _walk(estimator, list(range(width)), found)
    return ["text" if i in found else "float" for i in range(width)]


def _walk(estimator: Any, inputs: Sequence[int], found: set[int]) -> None:
    match type(estimator).__name__:
        case "Pipeline":
            if estimator.steps:
                _walk(estimator.steps[0][1], inputs, found)
        case "FeatureUnion":
            for _, each in estimator.transformer_list:
                _walk(each, inputs, found)
        case "ColumnTransformer":
            for name, each, _ in estimator.transformers_:
                indices = estimator._transformer_to_input_indices.get(name, [])
                _walk(each, [inputs[int(i)] for i in indices], found)
        case "OneHotEncoder" | "OrdinalEncoder":
            found.update(i for i, categories in zip(inputs, estimator.categories_, strict=False) if is_text(categories))
        case "SimpleImputer":
            found.update(i for i, filling in zip(inputs, estimator.statistics_, strict=False) if isinstance(filling, str))
        case "HistGradientBoostingRegressor" | "HistGradientBoostingClassifier":
            if estimator._preprocessor is not None:
                _walk(estimator._preprocessor, inputs, found)
        case "TransformedTargetRegressor":
            _walk(estimator.regressor_, inputs, found)
        case "VotingRegressor" | "VotingClassifier" | "StackingRegressor" | "StackingClassifier":
            for each in estimator.estimators_:
                _walk(each, inputs, found)
        case "CalibratedClassifierCV":
            for each in estimator.calibrated_classifiers_:
                _walk(each.estimator, inputs, found)
        case "GridSearchCV" | "RandomizedSearchCV":
            _walk(estimator.best_estimator_, inputs, found)

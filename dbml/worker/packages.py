"""Which packages a model's answers depend on, and their versions here; nothing of them is imported."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

_SCORING = ("scikit-learn", "numpy", "scipy", "xgboost", "xgboost-cpu", "lightgbm", "onnxruntime")


def scoring_packages() -> dict[str, str]:
    """Return the versions of those that are installed."""
    found = {}
    for name in _SCORING:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

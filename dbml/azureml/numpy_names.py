"""Names of numpy that it had when azureml's programs were written: np.float and others were the builtins until NumPy 1.24."""

from __future__ import annotations

from typing import Any

from dbml.azureml.differences import DIFFERENCES
from dbml.azureml.report import REPORT

BUILTINS: dict[str, type] = {"bool": bool, "int": int, "float": float, "complex": complex, "object": object, "str": str}
DIFFERENCES |= {f"numpy.{name}": "the builtin, as NumPy had it until 1.24" for name in BUILTINS}


def install() -> None:
    """Answer them in this process, where numpy is there and does not."""
    try:
        import numpy
    except ImportError:
        return
    former = getattr(numpy, "__getattr__", None)
    if former is None or getattr(former, "__module__", "") == __name__:
        return

    def answer(name: str) -> Any:
        if name in BUILTINS:
            REPORT.used(f"numpy.{name}")
            return BUILTINS[name]
        return former(name)

    vars(numpy)["__getattr__"] = answer

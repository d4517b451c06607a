"""`python -m dbml.azureml FILE [ARGUMENTS]`: run a script or notebook that was written for azureml."""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

from dbml.azureml import REPORT, notebook

USAGE = """usage: python -m dbml.azureml FILE [ARGUMENTS]

Run a Python script or a Jupyter notebook that was written for azureml-core, unmodified: its imports of azureml are answered
by dbml. The database is that of a config.json beside it, of DBML_DSN, or of the running `dbml up`. At the end it is said on
standard error which names were answered, which nearly, and which are not there.

Examples:
  python -m dbml.azureml train.py --alpha 0.5
  python -m dbml.azureml notebook.ipynb
"""


def main(arguments: list[str]) -> int:
    """Run a file; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if arguments else 2
    path = Path(arguments[0])
    if not path.is_file():
        print(f"dbml: {path} must be a script or a notebook, and is no file", file=sys.stderr)
        return 2
    REPORT.due()
    sys.argv = arguments
    if path.suffix == ".ipynb":
        return _notebook(path)
    sys.path[0] = str(path.resolve().parent)
    runpy.run_path(str(path), run_name="__main__")
    return 0


def _notebook(path: Path) -> int:
    path = path.resolve()
    os.chdir(path.parent)  # as Jupyter does
    sys.path[0] = str(path.parent)
    os.environ.setdefault("MPLBACKEND", "Agg")
    namespace: dict[str, Any] = {"__name__": "__main__", "display": notebook.display}
    try:
        notebook.run(path, namespace)
    except notebook.NotANotebook as error:
        print(f"dbml: {error}", file=sys.stderr)
        return 2
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException as error:
        shown = error.__traceback__
        while shown is not None and "[cell" not in shown.tb_frame.f_code.co_filename:
            shown = shown.tb_next
        traceback.print_exception(type(error), error, shown)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

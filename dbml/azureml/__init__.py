"""Answer the imports of `azureml.*` with `dbml.*`, so that scripts and notebooks run as they are.

    python -m dbml.azureml train.py --alpha 0.5
    python -m dbml.azureml notebook.ipynb

run a file; `import dbml.azureml` at the top of one does the same.  At the end it is said on standard error which names
were answered, which only nearly, and which are not there.  Importing this package is what installs it.
"""

from __future__ import annotations

from dbml.azureml import numpy_names
from dbml.azureml.answers import install
from dbml.azureml.report import REPORT

__all__ = ["REPORT", "install"]

install()
numpy_names.install()

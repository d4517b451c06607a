"""The rehearsal: import in an environment what its zygote imports, where the zygote will live.

    python -m dbml.worker.rehearsal CELL [SITE]

Prints the source files that were imported, so that they are compiled once: what runs here may not write there.
"""

from __future__ import annotations

import json
import sys

from dbml.worker.sandbox import Cell, settle
from dbml.worker.zygote import enter_environment, preload


def main() -> None:
    """Import everything, in the sandbox that the command line tells."""
    settle(Cell.of(json.loads(sys.argv[1])))
    if len(sys.argv) > 2:
        enter_environment(sys.argv[2])
    printed, sys.stdout = sys.stdout, sys.stderr
    preload()
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    printed.write(json.dumps([file for file in files if isinstance(file, str) and file.endswith(".py")]))
    printed.flush()


if __name__ == "__main__":
    main()

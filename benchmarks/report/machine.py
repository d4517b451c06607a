"""What the figures depend on: processor, memory, versions, and what else the machine does."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import dbml

LIBRARIES = (
    "numpy", "pandas", "scikit-learn", "onnxruntime", "skl2onnx", "pyarrow", "psycopg", "adbc-driver-postgresql", "orbital",
    "fastapi",
)  # fmt: skip


def describe() -> dict[str, str]:
    """Return what is known of the machine, by the words that the page shows."""
    return {
        "processor": _line("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "processors": str(len(os.sched_getaffinity(0))),
        "memory": f"{int((_line('/proc/meminfo', 'MemTotal') or '0').split()[0]) / 2**20:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "dbml": dbml.__version__,
        "Python": platform.python_version(),
        **{name: found for name in LIBRARIES if (found := _version(name))},
    }


def moment() -> dict[str, str]:
    """Return the date, and how many processes have wanted a processor in the last minute."""
    return {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "load": f"{os.getloadavg()[0]:.2f}"}


def _line(path: str, name: str) -> str | None:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

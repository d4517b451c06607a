"""Packages of conda, by the names and operators of PyPI.

A conda package that is no Python package (a compiler, CUDA, R) has no equivalent and is refused by its name; never
left out in silence.  Source of the syntax: conda's "Package match specification".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

# conda-forge's names where PyPI has another one.
NAMES = {
    "astropy-base": "astropy", "dask-core": "dask", "faiss": "faiss-cpu", "importlib_metadata": "importlib-metadata",
    "importlib_resources": "importlib-resources", "keras-base": "keras", "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack", "opencv": "opencv-python-headless", "py-opencv": "opencv-python-headless",
    "py-catboost": "catboost", "py-lightgbm": "lightgbm", "py-xgboost": "xgboost", "py-xgboost-cpu": "xgboost",
    "pyarrow-core": "pyarrow", "pyqt": "pyqt5", "python-xxhash": "xxhash", "pytables": "tables", "pytorch": "torch",
    "pytorch-cpu": "torch", "ruamel_yaml": "ruamel.yaml", "seaborn-base": "seaborn", "tensorflow-base": "tensorflow",
    "typing_extensions": "typing-extensions", "umap": "umap-learn",
}  # fmt: skip
# What conda installs and pip does not: system libraries, compilers, other languages.
FOREIGN = frozenset({
    "blas", "bzip2", "c-compiler", "ca-certificates", "compilers", "cuda", "cuda-toolkit", "cudatoolkit", "cudnn",
    "cxx-compiler", "ffmpeg", "fortran-compiler", "freetype", "gcc", "gdal", "geos", "gfortran", "git", "glib", "gxx",
    "hdf5", "icu", "intel-openmp", "jpeg", "julia", "kernel-headers_linux-64", "krb5", "libpq", "llvm-openmp", "make",
    "mkl", "mpi", "mpich", "nccl", "ncurses", "nodejs", "nomkl", "openblas", "openjdk", "openmpi", "openssl", "perl",
    "pkg-config", "postgresql", "proj", "pytorch-cuda", "pytorch-mutex", "readline", "rust", "sqlite", "swig",
    "sysroot_linux-64", "tk", "unixodbc", "xz", "yaml", "zlib", "zstd",
})  # fmt: skip
_FOREIGN_FORM = re.compile(r"^(_|r-|r$|lib(?!cst$|rosa$|sass$|tmux$|torrent$)|.*_linux-64$|.*-ng$|xorg-|gst-|cuda-)")

_SPEC = re.compile(
    r"""^(?:(?P<channel>[^\s\[:]+)::)?(?P<name>[A-Za-z0-9_.-]+?)\s*
        (?P<version>(?:[<>=!~]=?|\s(?=[0-9*])).*)?$""",
    re.VERBOSE,
)
_VERSION = re.compile(r"^[0-9][0-9A-Za-z.!+_-]*$")


@dataclass
class Notes:
    """What a translation leaves aside, so that it is told."""

    channels: list[str] = field(default_factory=list)
    builds: dict[str, str] = field(default_factory=dict)
    installers: list[str] = field(default_factory=list)

    def properties(self) -> dict[str, Any]:
        """Return what there is to note."""
        noted = {"package_channels": self.channels, "builds": self.builds, "left_out": self.installers}
        return {key: value for key, value in noted.items() if value}


def translate(text: str, notes: Notes) -> tuple[str | None, str]:
    """Return (name, specifier) of a conda dependency as PyPI has them; no name for conda's own installers.

    Raises: ValueError where there is no equivalent, or the syntax is not known; the text is for people.
    """
    match = _SPEC.match(text.strip())
    if match is None:
        raise ValueError(f"the conda dependency {text[:80]!r} has a form that is not translated")
    name = match["name"].lower()
    if match["channel"]:
        notes.channels.append(text.strip())
    if name in ("pip", "conda", "mamba"):
        notes.installers.append(text.strip())
        return None, ""
    if name in FOREIGN or _FOREIGN_FORM.match(name):
        raise ValueError(f'the conda package "{name}" has no equivalent on PyPI')
    return NAMES.get(name, name), _specifier(text, name, (match["version"] or "").strip(), notes)


def _specifier(text: str, name: str, version: str, notes: Notes) -> str:
    if not version or version in ("*", "=*", "==*"):
        return ""
    if "|" in version or "[" in version or "(" in version:
        raise ValueError(f"the conda dependency {text[:80]!r} has a form that is not translated")
    build = re.fullmatch(r"(?:==?\s*|)([^\s=<>!~,]+)(?:=|\s+)([^\s=<>!~,]+)", version)  # numpy=1.26.4=py311h64a7726_0
    if build:
        notes.builds[name] = build[2]
        version = ("=" if "*" not in build[1] else "==") + "=" * ("*" not in build[1]) + build[1]
    return ",".join(_clause(text, clause.strip()) for clause in version.split(","))


def _clause(text: str, clause: str) -> str:
    match = re.fullmatch(r"(===?|=|[<>!~]=|[<>]|)\s*(.+)", clause)
    if match is None:
        raise ValueError(f"the conda dependency {text[:80]!r} has a form that is not translated")
    operator, version = match.groups()
    star = version.endswith("*")
    base = version.removesuffix("*").removesuffix(".")
    if not _VERSION.match(base):
        raise ValueError(f"the conda dependency {text[:80]!r} has a version that is not translated")
    match operator:
        case "=" | "":  # fuzzy: 1.26 is every 1.26.x; a bare version is exact unless it ends in a star
            return f"=={base}.*" if star or operator == "=" else f"=={base}"
        case "==" | "!=":
            return f"{operator}{base}.*" if star else f"{operator}{base}"
        case _:
            return f"{operator}{base}"

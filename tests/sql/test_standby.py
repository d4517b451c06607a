"""A hot standby calls the same worker: nothing of a call is written where it runs, and the run is recorded on the primary."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import time
from typing import Any

import psycopg
import pytest
from sklearn.linear_model import LinearRegression

from dbml.database.embedded import Cluster
from dbml.dsn import parse


def test_scripts_and_predictions_on_a_hot_standby(fresh: Any, server: Any) -> None:
    if server.name == "given":
        pytest.skip("a server that is not ours has no standby of ours")
    primary = psycopg.connect(fresh.dsn, autocommit=True)
    primary.execute("SELECT dbml.register_model('line', %s)", (pickle.dumps(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])),))
    first = Cluster(server.folder / "cluster")
    # A standby must allow as many connections as its primary.
    standby = Cluster(server.folder / f"standby{next(server.numbers)}", settings={"max_connections": "150"})
    standby._wanted = first._wanted = server_binaries(server)
    standby._make_folder(standby.base, 0o711 if standby.account else 0o700, owned=False)
    standby._make_folder(standby.data, 0o700)
    subprocess.run(
        [
            str(standby.binaries.program("pg_basebackup")), "-D", str(standby.data), "-R", "-X", "stream", "-c", "fast", "-d", fresh.dsn,
        ],
        check=True, capture_output=True, cwd="/", env={"PATH": os.defpath, "LC_ALL": "C"}, **standby._as_account(),
    )  # fmt: skip
    shutil.copy(first.base / "password", standby.base / "password")
    try:
        standby.start()
        with psycopg.connect(standby.dsn(str(parse(fresh.dsn)["dbname"])), autocommit=True) as there:
            assert there.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
            rows = there.execute(
                "SELECT * FROM dbml.run_script('# on the standby\nOutputDataSet = InputDataSet * 2', input_query => 'SELECT 21 AS x') AS t(x int)"
            ).fetchall()
            assert rows == [(42,)]
            assert round(there.execute("SELECT dbml.predict('line', array[4.0])").fetchone()[0], 6) == 8  # type: ignore[index]
            scored = there.execute("SELECT r FROM dbml.predict_json('line', 'SELECT 5.0::float8 AS x') r").fetchone()
            assert scored is not None and round(scored[0]["prediction"], 6) == 10
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                there.execute("SELECT dbml.predict_into('line', 'SELECT 5.0::float8 AS x', 'nowhere')")
        deadline = time.monotonic() + 5
        query = "SELECT status FROM dbml.runs WHERE script LIKE '# on the standby%'"
        while primary.execute(query).fetchall() != [("completed",)]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        standby.stop()
        standby.destroy()
        primary.close()


def server_binaries(server: Any) -> Any:
    """Return the programs of a server's version."""
    from dbml.database import binaries

    return binaries.find(server.major)

"""Which languages there are, and the names of what a script is given and leaves."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from dbml import errors


@pytest.mark.parametrize("language", ["cobol", "", "python3"])
def test_the_languages_there_are(db: psycopg.Connection[Any], language: str) -> None:
    assert db.execute("SELECT * FROM dbml.run_script('OutputDataSet = [1]', language => 'Python') AS t(x int)").fetchone() == (1,)
    with pytest.raises(errors.InvalidArgument, match="language must be python or r"):
        db.execute("SELECT * FROM dbml.run_script('x', language => %s) AS t(x int)", (language,))


def test_names_of_input_and_output(db: psycopg.Connection[Any]) -> None:
    assert db.execute(
        "SELECT * FROM dbml.run_script('result = rows * 2', 'SELECT 21 AS x', input_name => 'rows', output_name => 'result')"
        " AS t(x int)"
    ).fetchone() == (42,)


DATA = """SELECT k, x, z, 3.5 * x - k * z / 7.0 + sin(k * x + z) AS y
    FROM generate_series(1, 300) k, LATERAL (SELECT sin(g * k)::float8 AS x, cos(g * 1.7)::float8 AS z FROM generate_series(1, 20) g) d"""
IN_PYTHON = """
import pickle
from sklearn.linear_model import LinearRegression

line = LinearRegression().fit(InputDataSet[["x", "z"]], InputDataSet.y)
OutputDataSet = [{"model": pickle.dumps(line), "intercept": line.intercept_, "x": line.coef_[0], "z": line.coef_[1]}]
"""
IN_R = """
line <- lm(y ~ x + z, InputDataSet)
at <- coef(line)
OutputDataSet <- data.frame(model = I(list(serialize(line, NULL))), intercept = at[[1]], x = at[["x"]], z = at[["z"]])
"""
AGAIN = {
    "python": "import pickle\nline = pickle.loads(m.model[0])\nOutputDataSet = [{'x': line.coef_[0]}]",
    "r": "line <- unserialize(m$model[[1]])\nOutputDataSet <- data.frame(x = coef(line)[['x']])",
}


@pytest.mark.needs_r
def test_three_hundred_groups_give_the_same_coefficients_in_both(db: psycopg.Connection[Any]) -> None:
    for language, script in (("python", IN_PYTHON), ("r", IN_R)):
        db.execute(
            f"CREATE TEMPORARY TABLE of_{language} AS SELECT * FROM dbml.run_script(%s, %s, partition_by => '{{k}}', parallel => 2,"  # type: ignore[arg-type]
            f" language => '{language}') AS t(k int, model bytea, intercept float8, x float8, z float8)",
            (script, DATA),
        )
    compared = db.execute(
        """SELECT count(*), max(greatest(abs(p.intercept - r.intercept), abs(p.x - r.x), abs(p.z - r.z))), min(length(r.model))
        FROM of_python p JOIN of_r r USING (k)"""
    ).fetchone()
    assert compared and compared[0] == 300 and compared[1] < 1e-9 and compared[2] > 1000
    for language, script in AGAIN.items():
        same = db.execute(
            f"SELECT t.x = o.x FROM of_{language} o, dbml.run_script(%s, inputs => jsonb_build_object('m',"  # type: ignore[arg-type]
            f" 'SELECT model FROM of_{language} WHERE k = 77'), language => '{language}') AS t(x float8) WHERE o.k = 77",
            (script,),
        ).fetchone()
        assert same == (True,), language

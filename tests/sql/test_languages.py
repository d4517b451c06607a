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

"""Profiles and drift, computed by the database, against numpy, pandas and scipy."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import psycopg
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from dbml import errors

Db = psycopg.Connection[Any]
PROBABILITIES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def rows(db: Db, statement: str, *values: Any) -> dict[str, dict[str, Any]]:
    with db.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(statement, values or None).fetchall()  # type: ignore[arg-type]
    return {row["column_name"]: row for row in found}


def profile(db: Db, query: str, **named: Any) -> dict[str, dict[str, Any]]:
    return rows(db, "SELECT * FROM dbml.profile(%s)", query)


def test_numbers_are_numpys(db: Db) -> None:
    values = np.random.default_rng(3).normal(5, 2, 401)
    db.execute("CREATE TEMP TABLE n AS SELECT unnest(%s::float8[]) AS x", (values.tolist(),))
    for type_ in ("float8", "numeric"):
        found = profile(db, f"SELECT x::{type_} AS x FROM n UNION ALL SELECT NULL UNION ALL SELECT 'NaN' UNION ALL SELECT 'Infinity'"
                        if type_ == "float8" else "SELECT x::numeric AS x FROM n UNION ALL SELECT NULL UNION ALL SELECT 'NaN'")["x"]  # fmt: skip
        assert (found["missing"], found["nan"]) == (1, 1) and found["count"] == 404 - (type_ == "numeric")
        assert found["infinite"] == (type_ == "float8") and float(found["min"]) == pytest.approx(values.min())
        assert found["mean"] == pytest.approx(values.mean()) and found["std"] == pytest.approx(values.std(ddof=1))
        assert [found["quantiles"][str(p)] for p in PROBABILITIES] == pytest.approx(np.quantile(values, PROBABILITIES).tolist())
    found = profile(db, "SELECT round(x)::int AS x FROM n")["x"]
    assert found["distinct_values"] == len(set(np.rint(values))) and (found["type"], found["nan"]) == ("integer", 0)


def test_every_kind_of_column(db: Db) -> None:
    found = profile(
        db,
        """SELECT * FROM (VALUES (true, 'b', date '2020-02-01', timestamptz '2020-01-01 00:00+00', interval '1 day', '{"a": 1}'::json,
              ARRAY[1], '\\x00'::bytea, uuid '00000000-0000-0000-0000-000000000001', NULL::text, 1e308::float8),
            (false, 'a', date '2020-01-01', timestamptz 'infinity', interval '2 days', NULL, ARRAY[1], NULL, NULL, NULL, 1.5e308),
            (false, '', NULL, NULL, NULL, NULL, ARRAY[2], NULL, NULL, NULL, NULL))
        AS t(flag, word, day, moment, span, doc, list, bytes, id, nothing, huge)""",
    )
    assert (found["flag"]["min"], found["flag"]["max"], found["flag"]["mean"]) == ("false", "true", pytest.approx(1 / 3))
    assert (found["word"]["min"], found["word"]["max"], found["word"]["distinct_values"]) == ("", "b", 3)
    assert (found["day"]["min"], found["day"]["quantiles"]["0.5"], found["day"]["missing"]) == ("2020-01-01", "2020-01-01", 1)
    assert (found["moment"]["max"], found["moment"]["infinite"]) == ("infinity", 1)
    assert (found["span"]["min"], found["span"]["max"]) == ("1 day", "2 days")
    assert (found["doc"]["distinct_values"], found["doc"]["min"], found["list"]["distinct_values"]) == (1, None, 2)
    assert (found["bytes"]["missing"], found["id"]["min"]) == (2, "00000000-0000-0000-0000-000000000001")
    assert (found["nothing"]["missing"], found["nothing"]["max"], found["nothing"]["distinct_values"]) == (3, None, 0)
    assert found["huge"]["mean"] == pytest.approx(1.25e308), "the sum leaves double precision, the mean does not"


def test_no_rows_one_row_and_names_to_quote(db: Db) -> None:
    found = profile(db, 'SELECT 1 AS "Ä ""x""", NULL::float8 AS y WHERE false')
    assert [(r["count"], r["mean"], r["min"], r["distinct_values"], r["quantiles"]) for r in found.values()] == [
        (0, None, None, 0, None)
    ] * 2 and list(found) == ['Ä "x"', "y"]  # fmt: skip
    found = profile(db, "SELECT 2.5::float4 AS y;")
    assert (found["y"]["mean"], found["y"]["std"], found["y"]["min"], found["y"]["quantiles"]["0.99"]) == (2.5, None, "2.5", 2.5)


def test_as_many_columns_as_a_table_has(db: Db) -> None:
    db.execute(
        "CREATE TEMP TABLE wide AS SELECT "
        + ", ".join(f"(g * {n})::int2 AS c{n}" for n in range(1600))
        + " FROM generate_series(1, 3) g"
    )
    found = profile(db, "TABLE wide")
    assert len(found) == 1600 and found["c1599"]["mean"] == 2 * 1599
    drift = rows(db, "SELECT * FROM dbml.data_drift('TABLE wide', 'TABLE wide')")
    assert len(drift) == 1600 and {r["change"] for r in drift.values()} == {"same"} and sum(r["psi"] for r in drift.values()) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "one of input_query and dataset must be given, got none"),
        ("'SELECT 1', 'x'", "got both"),
        ("'SELECT 1 AS x', probabilities => '{2}'", "probabilities must be 0 to 1"),
        ("'SELECT 1 AS x', probabilities => '{null}'", "probabilities must be 0 to 1"),
    ],
)
def test_bad_arguments(db: Db, arguments: str, said: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=said):
        db.execute(f"SELECT * FROM dbml.profile({arguments})")  # type: ignore[arg-type]


def psi(p: Any, q: Any, bins: int) -> float:
    """The index by its definition, on arrays."""
    cuts = np.unique(np.quantile(p, np.arange(1, bins) / bins, method="inverted_cdf"))
    shares = [np.bincount(np.searchsorted(cuts, v, side="right"), minlength=len(cuts) + 1) / len(v) for v in (p, q)]
    a, b = (np.where(s == 0, 1e-4, s)[(shares[0] > 0) | (shares[1] > 0)] for s in shares)
    return float(((b - a) * np.log(b / a)).sum())


values = st.lists(st.one_of(st.integers(-5, 5).map(float), st.floats(-1e6, 1e6, width=32)), min_size=1, max_size=40)


@settings(max_examples=25)
@given(p=values, q=values, bins=st.integers(2, 12))
def test_drift_of_numbers_is_scipys(p: list[float], q: list[float], bins: int) -> None:
    db = test_drift_of_numbers_is_scipys.db  # type: ignore[attr-defined]
    found = rows(db, "SELECT * FROM dbml.data_drift(%s, %s, bins => %s)", *(
        "SELECT unnest('{" + ",".join(map(repr, v)) + "}'::float8[]) AS x" for v in (p, q)), bins)["x"]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of its own p-value, which is not compared
        oracle = scipy.stats.ks_2samp(p, q)
    assert found["ks"] == pytest.approx(oracle.statistic, abs=1e-12)
    scale = math.sqrt(len(p) * len(q) / (len(p) + len(q)))
    assert found["ks_p"] == pytest.approx(scipy.stats.kstwobign.sf(oracle.statistic * scale), abs=1e-12)
    assert found["psi"] == pytest.approx(psi(np.array(p), np.array(q), bins), abs=1e-9)


@pytest.fixture(autouse=True)
def _lend(db: Db) -> None:
    test_drift_of_numbers_is_scipys.db = db  # type: ignore[attr-defined]


def test_drift_of_categories_and_of_the_columns_themselves(db: Db) -> None:
    found = rows(
        db,
        "SELECT * FROM dbml.data_drift(%s, %s)",
        "SELECT * FROM (VALUES ('a', 1, true, 0), ('a', 2, NULL, 0), ('b', 3, true, 0), (NULL, 4, true, 0)) t(word, n, flag, gone)",
        "SELECT * FROM (VALUES ('a', 1.0, true, 'NaN'::float8), ('c', 2, false, 1)) t(word, n, flag, fresh)",
    )
    assert {name: row["change"] for name, row in found.items()} == {
        "word": "same", "n": "type changed", "flag": "same", "gone": "dropped", "fresh": "added",
    }  # fmt: skip
    word = found["word"]
    assert (word["appeared"], word["vanished"], word["ks"]) == (["c"], ["b"], None)
    p, q = np.array([2 / 3, 1 / 3, 1e-4]), np.array([1 / 2, 1e-4, 1 / 2])
    assert word["psi"] == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert (word["reference_missing"], word["missing"], word["reference_count"], word["count"]) == (0.25, 0, 4, 2)
    assert (found["flag"]["appeared"], found["flag"]["reference_missing"]) == (["false"], 0.25)
    assert found["n"]["ks"] == pytest.approx(0.5) and found["n"]["type"] == "numeric"
    assert (found["gone"]["type"], found["gone"]["count"], found["gone"]["psi"]) == (None, None, None)
    assert (found["fresh"]["reference_type"], found["fresh"]["ks"]) == (None, None)


def test_drift_where_a_side_is_empty_or_not_a_number(db: Db) -> None:
    found = rows(db, "SELECT * FROM dbml.data_drift('SELECT 1 AS x WHERE false', 'SELECT 1 AS x')")["x"]
    assert (found["psi"], found["ks"], found["reference_count"], found["reference_missing"]) == (None, None, 0, None)
    found = rows(
        db, "SELECT * FROM dbml.data_drift('SELECT ''NaN''::float8 AS x UNION ALL SELECT 1', 'SELECT ''Infinity''::float8 AS x')"
    )["x"]
    assert (found["reference_missing"], found["missing"], found["ks"]) == (0.5, 0, 1)
    with pytest.raises(errors.InvalidArgument, match="is there twice"):
        db.execute("SELECT * FROM dbml.data_drift('SELECT 1 AS x, 2 AS x', 'SELECT 1 AS x')")


def test_it_runs_as_the_caller(db: Db, role: str) -> None:
    db.execute("CREATE TABLE IF NOT EXISTS not_yours (x int)")
    db.execute(f"GRANT dbml_scripter TO {role}; SET ROLE {role}")  # type: ignore[arg-type]
    for statement in (
        "SELECT * FROM dbml.profile('TABLE not_yours')",
        "SELECT * FROM dbml.data_drift('SELECT 1 AS x', 'TABLE not_yours')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="not_yours"):
            db.execute(statement)  # type: ignore[arg-type]
    assert len(profile(db, "SELECT 1 AS x")) == 1
    db.execute(f"RESET ROLE; REVOKE dbml_scripter FROM {role}; DROP TABLE not_yours")  # type: ignore[arg-type]

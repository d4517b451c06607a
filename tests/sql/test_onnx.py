"""Engine onnx: the graph answers as the pickle does, files are models of their own, and a row left out is the estimator's."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import psycopg
import pytest
from onnx import TensorProto, helper
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor

from dbml import errors
from dbml.engines.onnx.convert import convert
from dbml.engines.python import PythonEngine
from dbml.formats.onnx import session

from .engine_models import check, query_of, register

RANDOM = np.random.default_rng(3)
X, Y = load_diabetes(return_X_y=True)
X, Y = X[:150] * 100, Y[:150]
FLOWERS, SPECIES = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versi'color", "Ωvirginica"], dtype=object)[SPECIES]
GAPS = np.where(RANDOM.random(FLOWERS.shape) < 0.1, np.nan, FLOWERS)


@pytest.fixture
def given(db: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """A connection in a transaction that registers without compiling, and is rolled back."""
    db.execute("BEGIN; SET LOCAL dbml.compile = 'off'")
    yield db
    db.execute("ROLLBACK")


def test_what_has_no_translator_is_converted_by_skl2onnx(given: psycopg.Connection[Any]) -> None:
    """The maker of all other graphs is dbml; that those answer as their pickles do, test_engine_conformance.py shows."""
    model = KNeighborsRegressor().fit(X, Y)
    name = register(given, model)
    assert given.execute("SELECT dbml.compile_model(%s, engine => 'onnx')", (name,)).fetchone() == ("onnx",)
    ridge = register(given, Ridge().fit(X, Y))
    given.execute("SELECT dbml.compile_model(%s, engine => 'onnx')", (ridge,))
    makers = "SELECT status, maker FROM dbml.certificates WHERE model = %s AND engine = 'onnx'"
    assert given.execute(makers, (name,)).fetchone() == ("certified", "skl2onnx")
    assert given.execute(makers, (ridge,)).fetchone() == ("certified", "dbml")
    unseen = X[50:90] + RANDOM.normal(size=X[50:90].shape) / 7
    check(given, name, model, unseen, "onnx")
    (value,) = given.execute("SELECT dbml.predict(%s, %s::float8[], 'onnx')", (name, unseen[0].tolist())).fetchone()  # type: ignore[misc]
    assert value == pytest.approx(model.predict(unseen[:1])[0], rel=1e-9)


def test_a_row_that_the_graph_leaves_out_is_the_estimators(given: psycopg.Connection[Any]) -> None:
    model = Ridge().fit(X, Y)
    name = register(given, model)
    given.execute("SELECT dbml.compile_model(%s, engine => 'onnx'), dbml.set_model_engine(%s, 'onnx')", (name, name))
    data = X[:4].copy()
    data[2] *= 1e305  # beyond what the graph's sums hold
    found = given.execute(
        "SELECT (r ->> 'prediction')::float8 FROM dbml.predict_json(%s, %s) r", (name, query_of(data))
    ).fetchall()
    np.testing.assert_allclose([value for (value,) in found], model.predict(data), rtol=1e-9)
    with pytest.raises(errors.PredictionError, match="contains NaN"):
        given.execute("SELECT dbml.predict(%s, %s::float8[])", (name, [None, *X[0, 1:].tolist()]))


def test_a_model_that_sql_cannot_take_is_converted_as_it_is_registered(given: psycopg.Connection[Any]) -> None:
    given.execute("SET LOCAL dbml.compile = 'on'")
    name = register(given, KNeighborsRegressor().fit(X, Y))
    engines = dict(given.execute("SELECT engine, certificate IS NOT NULL FROM dbml.explain_predict(%s)", (name,)).fetchall())
    assert engines == {"sql": False, "onnx": True, "python": False}
    assert given.execute("SELECT dbml.compile_model(%s)", (name,)).fetchone() == ("onnx",)
    with pytest.raises(errors.NotCompiled, match="no translator"):
        given.execute("SELECT dbml.compile_model(%s, engine => 'sql')", (name,))


def test_a_graph_that_answers_otherwise_gets_no_certificate() -> None:
    def altered(content: bytes) -> Any:
        weight = np.float64(Ridge().fit(X, Y).coef_[0])
        assert content.count(weight.tobytes()) == 1
        return session(content.replace(weight.tobytes(), (weight * (1 + 1e-7)).tobytes()))

    with pytest.raises(errors.NotCompiled, match="differs from the model"):
        convert(PythonEngine(Ridge().fit(X, Y)), altered)


def test_a_file_is_a_model_of_its_own(given: psycopg.Connection[Any], dsn: str, tmp_path: Path) -> None:
    model = HistGradientBoostingClassifier(max_iter=3).fit(GAPS, NAMES)
    name = register(given, model)
    given.execute("SELECT dbml.compile_model(%s, engine => 'onnx')", (name,))
    (content,) = given.execute("SELECT dbml.export_onnx(%s)", (name,)).fetchone()  # type: ignore[misc]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert session.run(["prediction"], {"X": FLOWERS[:3]})[0].ravel().tolist() == model.predict(FLOWERS[:3]).tolist()
    alone = register(given, content)
    assert given.execute("SELECT format FROM dbml.models WHERE name = %s", (alone,)).fetchone() == ("onnx",)
    assert given.execute("SELECT bool_and(verdict = 'trusted' AND allowed) FROM dbml.inspect_model(%s)", (alone,)).fetchone() == (
        True,
    )
    found = given.execute("SELECT r ->> 'prediction' FROM dbml.predict_json(%s, %s) r", (alone, query_of(GAPS[:30]))).fetchall()
    assert [value for (value,) in found] == model.predict(GAPS[:30]).tolist()
    (proba,) = given.execute("SELECT dbml.predict_proba(%s, %s::float8[])", (alone, FLOWERS[0].tolist())).fetchone()  # type: ignore[misc]
    np.testing.assert_allclose(proba, model.predict_proba(FLOWERS[:1])[0], rtol=1e-9)
    used = given.execute("SELECT engine FROM dbml.explain_predict(%s) WHERE used_for = '{rows,queries}'", (alone,)).fetchall()
    assert used == [("onnx",)]
    given.execute("SAVEPOINT here")
    with pytest.raises(errors.NotCompiled, match="ONNX file"):
        given.execute("SELECT dbml.predict_proba(%s, %s::float8[], 'python')", (alone, FLOWERS[0].tolist()))
    given.execute("ROLLBACK TO here")
    with pytest.raises(errors.NotCompiled, match="ONNX file"):
        given.execute("SELECT dbml.predict_json(%s, %s, 'python')", (alone, query_of(GAPS[:1])))


def single_graph(operator: str, domain: str = "") -> bytes:
    """A file of one node over rows of two features, named as others name them."""
    node = helper.make_node(operator, ["features"], ["sum"], domain=domain, keepdims=1)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )  # fmt: skip
    if not domain:
        node.input.append("axes")
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def test_a_file_of_others_is_scored_and_what_is_not_onnxs_own_is_refused(given: psycopg.Connection[Any]) -> None:
    name = register(given, single_graph("ReduceSum"))
    assert given.execute("SELECT dbml.predict(%s, array[1.5, 2]::float8[])", (name,)).fetchone() == (3.5,)
    given.execute("SAVEPOINT here")
    with pytest.raises(errors.InvalidArgument, match="takes 2 features, got 3"):
        given.execute("SELECT dbml.predict(%s, array[1, 2, 3]::float8[])", (name,))
    given.execute("ROLLBACK TO here")
    for content, error in (
        (single_graph("Anything", "evil.example"), errors.ModelRefused),
        (b"\x08\x08 no graph", errors.ModelLoadError),
    ):
        given.execute("SAVEPOINT here")
        with pytest.raises(error):
            register(given, content)
        given.execute("ROLLBACK TO here")


def test_a_file_that_refers_to_other_files_is_refused(given: psycopg.Connection[Any]) -> None:
    model = onnx.load_from_string(single_graph("ReduceSum"))
    axes = model.graph.initializer[0]
    axes.ClearField("int64_data")
    axes.data_location = TensorProto.EXTERNAL
    axes.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(errors.ModelRefused, match="external_data"):
        register(given, model.SerializeToString())


def test_a_policy_counts_onnx_as_safe_and_can_leave_it_out(given: psycopg.Connection[Any]) -> None:
    workspace = "onnx-" + uuid.uuid4().hex
    given.execute("SELECT dbml.create_workspace(%s), set_config('dbml.workspace', %s, true)", (workspace, workspace))
    given.execute(
        "SELECT dbml.set_model_policy(%s, formats => '{safe,onnx}', allowed_types => '{argparse.Namespace}')", (workspace,)
    )
    name = register(given, single_graph("ReduceSum"))
    assert given.execute("SELECT dbml.predict(%s, array[1, 2]::float8[])", (name,)).fetchone() == (3.0,)
    given.execute("SELECT dbml.set_model_policy(%s, formats => '{safe}')", (workspace,))
    with pytest.raises(errors.ModelRefused, match="of format onnx"):
        given.execute("SELECT dbml.predict(%s, array[1, 2]::float8[])", (name,))


def test_the_form_goes_with_the_version(db: psycopg.Connection[Any]) -> None:
    db.execute("BEGIN")
    name = register(db, Ridge().fit(X + RANDOM.random(), Y))
    db.execute("SELECT dbml.compile_model(%s, engine => 'onnx')", (name,))
    (pair,) = db.execute(
        "SELECT pair FROM dbml._certificates JOIN dbml._models USING (model_id) WHERE name = %s AND pair IS NOT NULL", (name,)
    ).fetchone()  # type: ignore[misc]
    db.execute("SELECT dbml.delete_model(%s)", (name,))
    assert db.execute("SELECT count(*) FROM dbml._blobs WHERE digest = %s", (pair,)).fetchone() == (0,)
    db.execute("ROLLBACK")


def test_the_command_writes_the_file(dsn: str, db: psycopg.Connection[Any], tmp_path: Path) -> None:
    model = Ridge().fit(X, Y)
    name = register(db, model)
    try:
        db.execute("SELECT dbml.compile_model(%s, engine => 'onnx')", (name,))
        file = tmp_path / "model.onnx"
        subprocess.run([sys.executable, "-m", "dbml.cli", "export", name, "--onnx", file, "--dsn", dsn], check=True, timeout=100)
        session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(["prediction"], {"X": X[:5]})[0].ravel(), model.predict(X[:5]), rtol=1e-12)
    finally:
        db.execute("SELECT dbml.delete_model(%s)", (name,))

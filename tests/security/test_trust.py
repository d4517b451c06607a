"""Models are not trusted: damaged bytes are refused on every path, safe files are audited, policies hold at every load."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import psycopg
import pytest
import skops.io
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import Ridge

from dbml import errors
from dbml.formats import trees
from dbml.formats.load import load
from dbml.formats.policy import Policy

X = numpy.arange(200.0).reshape(100, 2)
RIDGE = Ridge().fit(X, X[:, 0])
EVIL = b"cos\nsystem\n(S'id > /tmp/dbml-was-here'\ntR."
PREDICT = "SELECT dbml.predict(%s, array[1.0, 2.0]::float8[])"
LOADS: dict[str, Callable[[str], tuple[str, tuple[str, ...]]]] = {
    "a row": lambda name: (PREDICT, (name,)),
    "a record": lambda name: ("SELECT dbml.predict_row(%s, '{\"a\": 1, \"b\": 2}'::jsonb)", (name,)),
    "a query": lambda name: (
        "SELECT * FROM dbml.predict_json(%s, 'SELECT 1.0::float8 AS a, 2.0::float8 AS b')", (name,)),
    "into a table": lambda name: ("SELECT dbml.predict_into(%s, 'SELECT 1.0::float8 AS a', 'pg_temp.t')", (name,)),
    "run.load_model": lambda name: (f"SELECT * FROM dbml.run_script('run.load_model(''{name}'')') AS t(a int)", ()),
    "run.load_bytes": lambda name: (f"SELECT * FROM dbml.run_script('run.load_bytes(''{name}'')') AS t(a int)", ()),
}  # fmt: skip
READS: dict[str, Callable[[str], tuple[str, tuple[str, ...]]]] = LOADS | {
    "model_bytes": lambda name: ("SELECT dbml.model_bytes(%s)", (name,)),
    "inspect_model": lambda name: ("SELECT * FROM dbml.inspect_model(%s)", (name,)),
}


@pytest.fixture
def workspace(db: psycopg.Connection[Any]) -> Iterator[str]:
    name = "trust-" + uuid.uuid4().hex
    db.execute("SELECT dbml.create_workspace(%s)", (name,))
    db.execute("SELECT set_config('dbml.workspace', %s, false)", (name,))
    yield name
    db.execute("DELETE FROM dbml._workspaces WHERE name = %s", (name,))


def register(db: psycopg.Connection[Any], model: Any, name: str = "m") -> None:
    content = model if isinstance(model, bytes) else pickle.dumps(model)
    db.execute("SELECT dbml.register_model(%s, %s)", (name, content))


def fresh_ridge() -> Ridge:
    """A model whose bytes nobody has loaded yet."""
    return Ridge(alpha=1 / (1 + uuid.uuid4().int % 10**9)).fit(X, X[:, 0])


def large(model: Any) -> Any:
    model.ballast = numpy.random.default_rng().bytes(3 << 20)  # of several parts
    return model


DAMAGES = {
    "altered": "UPDATE dbml._chunks SET data = set_byte(data, 200, get_byte(data, 200) # 1) WHERE digest = (SELECT chunk"
    " FROM dbml._blob_chunks WHERE blob = decode(%(digest)s, 'hex') AND ordinal = 0)",
    "a part is missing": "DELETE FROM dbml._blob_chunks WHERE blob = decode(%(digest)s, 'hex') AND ordinal = 1",
    "all parts are missing": "DELETE FROM dbml._blob_chunks WHERE blob = decode(%(digest)s, 'hex')",
    "parts in another order": "UPDATE dbml._blob_chunks b SET chunk = o.chunk FROM dbml._blob_chunks o WHERE b.blob = o.blob"
    " AND o.ordinal = 1 - b.ordinal AND b.ordinal < 2 AND b.blob = decode(%(digest)s, 'hex')",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_bytes_are_refused_on_every_path(db: psycopg.Connection[Any], workspace: str, damage: str) -> None:
    db.execute("SET dbml.compile = 'off'")  # what is compiled needs no bytes to score, and has them in a scorer
    register(db, large(fresh_ridge()))
    (digest,) = db.execute("SELECT digest FROM dbml.models WHERE workspace = %s", (workspace,)).fetchone()  # type: ignore[misc]
    db.execute(DAMAGES[damage], {"digest": digest})  # type: ignore[arg-type]
    for call in READS.values():
        statement, arguments = call("m")
        with pytest.raises(errors.ModelLoadError, match="digest"):
            db.execute(statement, arguments)  # type: ignore[arg-type]
    db.execute("SELECT dbml.set_model_policy(%s, allowed_types => '{}')", (workspace,))
    with pytest.raises(errors.ModelLoadError, match="digest"):
        db.execute(*LOADS["run.load_model"]("m"))  # type: ignore[arg-type]


def test_a_safe_model_is_registered_scored_and_loaded(db: psycopg.Connection[Any], workspace: str) -> None:
    forest = RandomForestRegressor(5, random_state=1).fit(X, X[:, 0])
    register(db, skops.io.dumps(forest), "given")
    db.execute(
        "SELECT * FROM dbml.run_script($$\nimport numpy\nfrom sklearn.ensemble import RandomForestRegressor\n"
        "x = numpy.arange(200.0).reshape(100, 2)\n"
        "run.register_model('made', RandomForestRegressor(5, random_state=1).fit(x, x[:, 0]), format='safe')\n$$) AS t(a int)"
    )
    rows = db.execute("SELECT name, format FROM dbml.models WHERE workspace = %s ORDER BY 1", (workspace,)).fetchall()
    assert rows == [("given", "safe"), ("made", "safe")]
    assert [db.execute(PREDICT, (name,)).fetchone() for name, _ in rows] == [(forest.predict([[1, 2]])[0],)] * 2
    loaded = db.execute(
        'SELECT * FROM dbml.run_script(\'OutputDataSet = {"a": run.load_model("made").predict([[1, 2]])}\') AS t(a float8)'
    ).fetchone()
    assert loaded == (forest.predict([[1, 2]])[0],)
    found = db.execute("SELECT module || '.' || name, verdict, allowed FROM dbml.inspect_model('made')").fetchall()
    assert ("sklearn.tree._tree.Tree", "trusted", True) in found and {row[1] for row in found} == {"trusted"}


def test_a_safe_file_with_types_that_are_not_trusted_is_refused_until_a_policy_lists_them(
    db: psycopg.Connection[Any], workspace: str
) -> None:
    model = Ridge().fit(X, X[:, 0])
    model.more = uuid.SafeUUID.safe
    import fractions

    model.more = fractions.Fraction(1, 3)
    content = skops.io.dumps(model)
    with pytest.raises(errors.ModelRefused, match=r"not trusted: fractions\.Fraction") as caught:
        register(db, content)
    assert caught.value.detail["types"] == ["fractions.Fraction"]
    assert "inspect" not in (caught.value.hint or "") and "SELECT dbml.set_model_policy" in (caught.value.hint or "")
    db.execute((caught.value.hint or "").partition(": ")[2])  # type: ignore[arg-type]
    register(db, content)
    assert db.execute(PREDICT, ("m",)).fetchone() is not None
    db.execute("SELECT dbml.set_model_policy(%s)", (workspace,))
    for call in LOADS.values():
        with pytest.raises(errors.ModelRefused, match=r"fractions\.Fraction"):
            db.execute(*call("m"))  # type: ignore[arg-type]
    found = db.execute("SELECT name, verdict, allowed FROM dbml.inspect_model('m') WHERE verdict <> 'trusted'").fetchall()
    assert found == [("Fraction", "untrusted", False)]


@pytest.mark.parametrize("content", [b"PK\x03\x04 and no zip", b"PK\x03\x04" + bytes(100)])
def test_a_zip_that_is_no_safe_file(db: psycopg.Connection[Any], workspace: str, content: bytes) -> None:
    with pytest.raises(errors.ModelLoadError, match="no safe file"):
        register(db, content)


def test_a_script_cannot_pass_a_pickle_off_as_safe(db: psycopg.Connection[Any], workspace: str) -> None:
    with pytest.raises(errors.ModelLoadError, match="no safe file"):
        db.execute(
            "SELECT * FROM dbml.run_script($$run.register_bytes('x', b'cos\\nsystem\\n(I1\\ntR.', format='safe')$$) AS t(a int)"
        )
    with pytest.raises(errors.InvalidArgument, match="pickle or safe"):
        db.execute("SELECT * FROM dbml.run_script($$run.register_model('x', 1, format='dill')$$) AS t(a int)")


def test_a_policy_of_formats(db: psycopg.Connection[Any], workspace: str) -> None:
    register(db, RIDGE, "before")
    db.execute("SELECT dbml.set_model_policy(%s, formats => '{safe}')", (workspace,))
    for call in LOADS.values():
        with pytest.raises(errors.ModelRefused, match=f'"before" is of format pickle, workspace "{workspace}" allows safe'):
            db.execute(*call("before"))  # type: ignore[arg-type]
    with pytest.raises(errors.ModelRefused, match="format pickle"):
        register(db, RIDGE, "after")
    with pytest.raises(errors.ModelRefused, match="format pickle"):
        db.execute("SELECT * FROM dbml.run_script('run.register_model(\"x\", {1: 2})') AS t(a int)")
    register(db, skops.io.dumps(RIDGE), "after")
    assert db.execute(PREDICT, ("after",)).fetchone() is not None
    assert db.execute("SELECT model_formats, model_types FROM dbml.workspaces WHERE name = %s", (workspace,)).fetchone() == (
        ["safe"],
        None,
    )
    db.execute("SELECT dbml.set_model_policy(%s)", (workspace,))
    assert db.execute(PREDICT, ("before",)).fetchone() is not None


def test_a_policy_of_types(db: psycopg.Connection[Any], workspace: str) -> None:
    import functools

    register(db, EVIL, "evil")
    register(db, functools.partial(len), "partial")
    register(db, RIDGE, "good")
    assert db.execute(PREDICT, ("good",)).fetchone() is not None  # a scorer holds it
    db.execute("SELECT dbml.set_model_policy(%s, allowed_types => '{functools.partial}')", (workspace,))
    assert db.execute(PREDICT, ("good",)).fetchone() is not None
    for call in LOADS.values():
        with pytest.raises(errors.ModelRefused, match=r'"evil.*os\.system'):
            db.execute(*call("evil"))  # type: ignore[arg-type]
    with pytest.raises(errors.ModelRefused, match=r"os\.system") as caught:
        register(db, EVIL + b" ", "again")
    assert "allowed_types" not in (caught.value.hint or "")  # nobody is told to trust that
    assert db.execute("SELECT module, name, calls, verdict, allowed FROM dbml.inspect_model('evil')").fetchall() == [
        ("os", "system", 1, "dangerous", False)
    ]
    with pytest.raises(errors.ModelRefused, match=r"builtins\.len"):
        db.execute("SELECT * FROM dbml.run_script('run.load_model(\"partial\")') AS t(a int)")
    db.execute("SELECT dbml.set_model_policy(%s, allowed_types => '{functools.partial,builtins.len}')", (workspace,))
    db.execute("SELECT * FROM dbml.run_script('run.load_model(\"partial\")') AS t(a int)")
    with pytest.raises(errors.ModelRefused, match="cloudpickle"):
        db.execute("SELECT * FROM dbml.run_script('run.register_model(\"x\", lambda: 1)') AS t(a int)")
    with pytest.raises(errors.ModelRefused, match=r"no pickle|no opcode|stack"):
        register(db, b"no pickle", "nonsense")


def test_a_policy_is_of_one_workspace(db: psycopg.Connection[Any], workspace: str) -> None:
    db.execute("SELECT dbml.set_model_policy(%s, formats => '{rds}', allowed_types => '{}')", (workspace,))
    other = "m-" + uuid.uuid4().hex
    db.execute("SELECT dbml.register_model(%s, %s, workspace => 'default')", (other, pickle.dumps(RIDGE)))
    db.execute("SET dbml.workspace = 'default'")
    assert db.execute(PREDICT, (other,)).fetchone() is not None
    db.execute("SELECT dbml.delete_model(%s)", (other,))


@pytest.mark.parametrize(
    "call",
    [
        "formats => '{}'", "formats => '{dill}'", "formats => '{null}'", "allowed_types => '{x}'", "allowed_types => '{a b.c}'",
        "allowed_types => '{null}'", "allowed_types => '{*}'", "allowed_types => '{a.*.b}'", "allowed_types => array['']",
        "allowed_types => array_fill('a.b'::text, array[1001])",
    ],
)  # fmt: skip
def test_a_policy_must_make_sense(db: psycopg.Connection[Any], workspace: str, call: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        db.execute(f"SELECT dbml.set_model_policy(%s, {call})", (workspace,))  # type: ignore[arg-type]
    with pytest.raises(errors.DbmlError):
        db.execute("SELECT dbml.set_model_policy('not-there')")


def test_only_owners_set_a_policy_and_only_readers_inspect(db: psycopg.Connection[Any], workspace: str, role: str) -> None:
    register(db, RIDGE)
    db.execute("SELECT dbml.grant_workspace(%s, %s, 'contributor')", (workspace, role))
    try:
        db.execute(f"SET ROLE {role}")  # type: ignore[arg-type]
        assert db.execute("SELECT count(*) FROM dbml.inspect_model('m')").fetchone() != (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="administer"):
            db.execute("SELECT dbml.set_model_policy(%s)", (workspace,))
        db.execute("RESET ROLE")
        db.execute("SELECT dbml.revoke_workspace(%s, %s)", (workspace, role))
        db.execute(f"GRANT dbml_scripter TO {role}")  # type: ignore[arg-type]
        db.execute(f"SET ROLE {role}")  # type: ignore[arg-type]
        for statement in ("SELECT * FROM dbml.inspect_model('m')", f"SELECT dbml.set_model_policy('{workspace}')"):
            with pytest.raises(errors.DbmlError, match="does not exist"):
                db.execute(statement)  # type: ignore[arg-type]
    finally:
        db.execute("RESET ROLE")
        db.execute(f"DROP OWNED BY {role}")  # type: ignore[arg-type]


def test_inspecting_runs_nothing_and_survives_hostile_bytes(db: psycopg.Connection[Any], workspace: str, tmp_path: Any) -> None:
    mark = tmp_path / "ran"
    for i, content in enumerate(
        (
            f"cos\nsystem\n(S'touch {mark}'\ntR.".encode(),
            b"\x80",
            b"(" * 100_000,
            b"\x78\x9c nonsense",
            b"\x00",
            b"\x80\x04" + b"N" * 10**6,
        )
    ):
        register(db, content, f"m{i}")
        assert db.execute(f"SELECT verdict FROM dbml.inspect_model('m{i}')").fetchall()  # type: ignore[arg-type]
    assert not mark.exists()
    with pytest.raises(errors.ModelNotFound):
        db.execute("SELECT * FROM dbml.inspect_model('not-there')")
    db.execute("SELECT dbml.set_model_policy(%s, allowed_types => '{}')", (workspace,))
    with pytest.raises(errors.ModelRefused):
        db.execute(PREDICT, ("m0",))
    assert not mark.exists()


def test_the_unpickler_itself_refuses_what_a_policy_forbids() -> None:
    assert load(pickle.dumps(RIDGE), "pickle", Policy(())).alpha == RIDGE.alpha
    with pytest.raises(errors.ModelRefused, match=r"os\.system"):
        load(EVIL, "pickle", Policy(()))
    # Another package's function, by the name that an allowed one has imported it under.
    content = b"\x80\x04\x8c\x10urllib_is_not_me\x8c\x01x\x93."
    with pytest.raises(errors.ModelRefused):
        load(content, "pickle", Policy(()))
    borrowed = b"\x80\x04\x8c\x0dsklearn.utils\x8c\x08metadata\x93."
    with pytest.raises((errors.ModelRefused, AttributeError)):
        load(borrowed, "pickle", Policy(("sklearn.*",)))
    gadget = b"\x80\x04\x8c\x0csklearn.base\x8c\x09signature\x93."  # inspect's own
    with pytest.raises((errors.ModelRefused, AttributeError)):
        load(gadget, "pickle", Policy(("sklearn.*",)))


@pytest.mark.parametrize(
    "model",
    [RandomForestRegressor(3), GradientBoostingRegressor(n_estimators=3), HistGradientBoostingClassifier(max_iter=3)],
    ids=lambda model: type(model).__name__,
)
def test_a_tree_that_leads_astray_is_refused(model: Any) -> None:
    model.fit(X, (X[:, 0] > 100) + 0.0)
    content = skops.io.dumps(model)
    numpy.testing.assert_array_equal(load(content, "safe", Policy()).predict(X), model.predict(X))
    if isinstance(model, HistGradientBoostingClassifier):
        nodes = model._predictors[0][0].nodes
        for field, value in (("left", 10**6), ("feature_idx", 77), ("right", 0)):
            kept = nodes[field][0]
            nodes[field][0] = value
            with pytest.raises(errors.ModelLoadError):
                load(skops.io.dumps(model), "safe", Policy())
            nodes[field][0] = kept
        return
    tree = numpy.ravel(model.estimators_)[0].tree_
    for array, value in ((tree.children_left, 10**6), (tree.feature, 77), (tree.children_right, 0)):
        kept = array[0]
        array[0] = value
        with pytest.raises(errors.ModelLoadError, match="not there"):
            load(skops.io.dumps(model), "safe", Policy())
        array[0] = kept
    trees.check_trees(model)
    numpy.ravel(model.estimators_)[0].n_features_in_ = 1
    with pytest.raises(errors.ModelLoadError, match="features"):
        trees.check_trees(model)

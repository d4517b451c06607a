"""`run` inside real scripts: metrics, artifacts, tags, and models that leave and return."""

from __future__ import annotations

import hashlib
import json
import pickle
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from dbml import errors
from dbml.worker.run import describe, framework_of

BIGINT = [("bigint", "int8")]


def artifact(outcome: Any, name: str) -> tuple[dict[str, Any], bytes]:
    """Return an artifact's head and its bytes."""
    frames = outcome.frames
    start = next(i for i, (head, _) in enumerate(frames) if head["tag"] == "artifact" and head["name"] == name)
    content = b""
    for head, body in frames[start + 1 :]:
        if head["tag"] == "end":
            assert head["digest"] == frames[start][0]["digest"] == hashlib.sha256(content).hexdigest()
            assert frames[start][0]["size"] == len(content)
            return frames[start][0], content
        assert head["tag"] == "part" and 0 < len(body) <= 1 << 20
        content += body
    raise AssertionError("no end")


def test_who_am_i(house: Any) -> None:
    assert house.script("print(run.id, run.workspace, run.experiment, run.user, run)").printed == (
        "7 default trials someone Run(id='7', workspace='default', experiment='trials')\n"
    )


def test_metrics(house: Any) -> None:
    text = """
import numpy, decimal
run.log('a', 1); run.log('a', 0.5, step=3); run.log('nan', float('nan')); run.log('inf', -numpy.inf)
run.log('np', numpy.float32(0.25)); run.log('i', numpy.int64(7), step=numpy.int64(2)); run.log('z', numpy.array(3.0))
run.log('d', decimal.Decimal('1.5'))
run.log_list('l', [1, 2]); run.log_row('r', x=1, y=2.5)
m = run.get_metrics()
OutputDataSet = [{'a': m['a'], 'n': len(m), 'l': run.get_metrics('l')['l']}]
"""
    outcome = house.script(text, result="json")
    logged = [(head["name"], head["step"], head["value"]) for head, _ in outcome.tagged("metric")]
    assert logged == [
        ("a", None, 1.0), ("a", 3, 0.5), ("nan", None, "nan"), ("inf", None, "-inf"), ("np", None, 0.25), ("i", 2, 7.0),
        ("z", None, 3.0), ("d", None, 1.5), ("l", 0, 1.0), ("l", 1, 2.0), ("r.x", None, 1.0), ("r.y", None, 2.5),
    ]  # fmt: skip
    assert all(head["time"] > 1.7e9 for head, _ in outcome.tagged("metric"))
    assert '\\"a\\":[1.0,0.5]' in outcome.columns[0].replace(" ", "")


@pytest.mark.parametrize(
    "text",
    [
        "run.log('x', 'high')", "run.log('x', None)", "run.log('x', [1, 2])", "run.log('', 1)", "run.log(3, 1)",
        "run.log('a\\x00b', 1)", "run.log('x' * 256, 1)", "run.log('x', 1, step='first')", "run.log('x', 10 ** 400)",
        "run.log('x', 1j)", "run.log('x', True)", "import pandas; run.log('x', pandas.NA)", "run.log_table('t', [1, 2])", "run.log_image('i')",
        "run.log_image('i', plot='x')", "run.log_image('i', path='a', plot='b')",
        "open('x.png', 'w').write('no picture'); run.log_image('i', path='x.png')",
        "import io; run.upload_file('f', io.StringIO('text'))", "run.upload_file('', 'f')",
        "import threading; run.register_model('m', threading.Lock())",
        "run.register_model('m', 1, tags=['x'])",
    ],
)  # fmt: skip
def test_what_is_refused(house: Any, text: str) -> None:
    outcome = house.script(text)
    assert type(outcome.error) is errors.InvalidArgument, (outcome.error, outcome.frames)
    assert "script line 1" in (outcome.error.context or "")


def test_tables_files_and_tags(house: Any) -> None:
    text = """
import io, numpy, pathlib
run.log_table('t', {'x': [1, 2.5, float('nan')], 'y': numpy.array(['a', 'b', 'c']), 'z': 3})
run.upload_file('big.bin', io.BytesIO(b'0123456789' * 300_000))
pathlib.Path('some.txt').write_text('ä'); run.upload_file('some.txt', pathlib.Path('some.txt'))
stream = io.BytesIO(b'headbody'); stream.read(4); run.upload_file('rest', stream)
run.upload_file('empty', io.BytesIO())
run.tag('kind', 'test'); run.tag('n', 3)
"""
    outcome = house.script(text)
    assert outcome.error is None, outcome.error
    head, content = artifact(outcome, "t")
    assert head["kind"] == "table" and json.loads(content) == {"x": [1, 2.5, "nan"], "y": ["a", "b", "c"], "z": [3]}
    assert artifact(outcome, "big.bin")[1] == b"0123456789" * 300_000
    assert artifact(outcome, "some.txt")[1] == "ä".encode() and artifact(outcome, "rest")[1] == b"body"
    assert artifact(outcome, "empty")[1] == b""
    assert [head["tags"] for head, _ in outcome.tagged("tags")] == [{"kind": "test"}, {"n": "3"}]


def test_images(house: Any) -> None:
    text = """
import matplotlib.pyplot as plt, numpy
figure, axes = plt.subplots(); axes.plot([1, 2, 3])
run.log_image('figure', plot=figure); run.log_image('axes', plot=axes); run.log_image('module', plot=plt)
figure.savefig('f.png'); run.log_image('file', path='f.png')
run.log_image('pixels', plot=numpy.zeros((4, 4)))
"""
    outcome = house.script(text)
    assert outcome.error is None, outcome.error
    for name in ("figure", "axes", "module", "file", "pixels"):
        head, content = artifact(outcome, name)
        assert (head["kind"], head["content_type"], content[:4]) == ("image", "image/png", b"\x89PNG")
    assert outcome.printed == ""


def test_an_array_without_matplotlib_says_how_to_get_it(house: Any) -> None:
    text = "import sys, numpy\nsys.modules['matplotlib'] = None\nrun.log_image('pixels', plot=numpy.zeros((4, 4)))"
    error = house.script(text).error
    assert isinstance(error, errors.InvalidArgument) and error.hint == "pip install matplotlib"


REGISTER = """
import pandas
from sklearn.linear_model import Ridge
class Own:
    def predict(self, rows): return [len(rows)] * len(rows)
model = Ridge().fit(pandas.DataFrame({'x': [0.0, 1.0], 'y': [1, 5]}), [1.0, 3.0])
first = run.register_model('m', model, tags={'a': 1}, description='a line', alias='best', properties={'p': [1, None]})
second = run.register_model('own', Own(), sample_input=pandas.DataFrame({'q': [1], 't': ['x']}))
OutputDataSet = {'v': [first, second]}
"""


def test_a_model_is_registered_and_loads(house: Any) -> None:
    kept: dict[str, tuple[dict[str, Any], bytes]] = {}

    async def answer(child: Any, head: dict[str, Any], parts: list[bytes]) -> None:
        if head["tag"] == "register":
            kept[head["name"]] = (head, b"".join(parts))
            await child.send({"tag": "registered", "name": head["name"], "version": 40 + len(kept)})
            return
        about, content = kept[head["name"].partition("@")[0]]
        for start in range(0, len(content), 100):
            await child.send({"tag": "model_part"}, content[start : start + 100])
        await child.send({"tag": "model_end", "name": head["name"], "version": 1, "digest": about["digest"]})

    outcome = house.script(REGISTER, expected=BIGINT, answer=answer)
    assert outcome.error is None, (outcome.error, outcome.error.context)
    assert outcome.columns == ["{41,42}"]
    head, content = kept["m"]
    import sklearn

    assert (head["framework"], head["framework_version"], head["format"]) == ("ScikitLearn", sklearn.__version__, "pickle")
    assert (head["tags"], head["properties"], head["description"], head["alias"]) == (
        {"a": "1"},
        {"p": [1, None]},
        "a line",
        "best",
    )
    assert head["signature"] == {
        "features": [{"name": "x"}, {"name": "y"}], "n_features": 2, "prediction": {"type": "double precision"},
    }  # fmt: skip
    assert head["size"] == len(content) and isinstance(pickle.loads(content), Ridge)
    head, _ = kept["own"]
    assert head["framework"] is None and [f["type"] for f in head["signature"]["features"]] == ["bigint", "text"]
    text = "a = run.load_model('m@best'); b = run.load_model('own')\nOutputDataSet = [len(a.coef_), b.predict([1, 2, 3])[0]]"
    assert house.script(text, expected=BIGINT, answer=answer).columns == ["{2,3}"]


def test_a_model_that_is_refused_or_altered(house: Any) -> None:
    async def refuse(child: Any, head: dict[str, Any], parts: list[bytes]) -> None:
        await child.send({"tag": "refused", "sqlstate": "ML020", "message": "no model x", "detail": '{"name": "x"}', "hint": "h"})

    text = "try:\n    run.load_model('x')\nexcept Exception as e:\n    print(type(e).__name__, e.detail)\nrun.load_model('x')"
    outcome = house.script(text, answer=refuse)
    assert isinstance(outcome.error, errors.ModelNotFound) and outcome.error.hint == "h"
    assert (
        outcome.printed == "ModelNotFound {'name': 'x'}\n"
        and outcome.error.context == "script line 5, in <module>: run.load_model('x')"
    )

    async def alter(child: Any, head: dict[str, Any], parts: list[bytes]) -> None:
        await child.send({"tag": "model_part"}, b"anything")
        await child.send({"tag": "model_end", "name": "x", "version": 1, "digest": "0" * 64})

    assert isinstance(house.script("run.load_model('x')", answer=alter).error, errors.ModelLoadError)

    async def nonsense(child: Any, head: dict[str, Any], parts: list[bytes]) -> None:
        digest = hashlib.sha256(b"anything").hexdigest()
        await child.send({"tag": "model_part"}, b"anything")
        await child.send({"tag": "model_end", "name": "x", "version": 1, "digest": digest})

    error = house.script("run.load_model('x')", answer=nonsense).error
    assert isinstance(error, errors.ModelLoadError) and '"x"' in error.message


def test_signatures() -> None:
    labels = LogisticRegression().fit([[0.0], [1.0]], ["no", "yes"])
    assert describe(labels) == {"n_features": 1, "prediction": {"type": "text"}, "classes": ["no", "yes"]}
    assert describe({"any": "object"}) is None
    assert framework_of(3) == (None, None)

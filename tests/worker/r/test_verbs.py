"""`run` inside R scripts, in real satellites: what the router hears of it, and what comes back."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from dbml import errors
from dbml.worker.r.language import RScript
from dbml.worker.run import Run
from dbml.worker.sandbox import Limits

pytestmark = pytest.mark.needs_r

PNG = b"\x89PNG\r\n\x1a\n"


class Router:
    """Records what is said, and says what a test wants heard."""

    def __init__(self, *answers: tuple[dict[str, Any], bytes]) -> None:
        self.said: list[tuple[dict[str, Any], bytes]] = []
        self.answers = list(answers)

    def say(self, head: dict[str, Any], body: bytes = b"") -> None:
        self.said.append((head, body))

    def hear(self) -> tuple[dict[str, Any], bytes]:
        return self.answers.pop(0)

    def tagged(self, tag: str) -> list[dict[str, Any]]:
        return [head for head, _ in self.said if head["tag"] == tag]

    def artifact(self, name: str) -> tuple[dict[str, Any], bytes]:
        """Return an artifact's head and its bytes."""
        start = next(i for i, (head, _) in enumerate(self.said) if head["tag"] == "artifact" and head["name"] == name)
        content = b""
        for head, body in self.said[start + 1 :]:
            if head["tag"] == "end":
                return self.said[start][0], content
            content += body
        raise AssertionError("no end")


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """Run a script with a run, and return the router and the script."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def run(text: str, *answers: tuple[dict[str, Any], bytes]) -> tuple[Router, RScript]:
        router = Router(*answers)
        script = RScript(dataclasses.replace(Limits()))
        request.addfinalizer(script.close)
        script.load(text)
        given = {"run_id": "7", "workspace": "default", "experiment": None, "user": "someone"}
        script.run({"run": Run(given, router.say, router.hear)}, {})
        return router, script

    return run


def cells(script: RScript) -> list[Any]:
    frame = script.result("OutputDataSet")
    assert frame is not None
    return list(frame["c1"])


def test_who_am_i(play: Any) -> None:
    _, script = play("stopifnot(is.null(run$experiment)); OutputDataSet <- c(run$id, run$workspace, run$user)")
    assert cells(script) == ["7", "default", "someone"]


def test_metrics(play: Any) -> None:
    router, script = play(
        """
run$log("rmse", 1.2); run$log("i", 3L, step = 2); run$log("nan", NaN); run$log("inf", -Inf)
run$log_list("l", c(1, 2)); run$log_list("one", 5); run$log_row("r", x = 1, y = 2.5); run$log_row("s", list(z = 3L))
m <- run$get_metrics(); stopifnot(identical(m$l, c(1, 2)), m$rmse == 1.2, is.nan(m$nan))
OutputDataSet <- names(m)
"""
    )
    assert [(head["name"], head["step"], head["value"]) for head in router.tagged("metric")] == [
        ("rmse", None, 1.2), ("i", 2, 3.0), ("nan", None, "nan"), ("inf", None, "-inf"), ("l", 0, 1.0), ("l", 1, 2.0),
        ("one", 0, 5.0), ("r.x", None, 1.0), ("r.y", None, 2.5), ("s.z", None, 3.0),
    ]  # fmt: skip
    assert cells(script) == ["rmse", "i", "nan", "inf", "l", "one", "r.x", "r.y", "s.z"]


def test_artifacts_tags_and_progress(play: Any) -> None:
    router, script = play(
        """
run$log_table("t", data.frame(a = 1:2, b = c("x", NA), f = factor(c("u", "v"))))
writeLines("some text", "notes.txt"); run$upload_file("notes", "notes.txt")
run$tag("kind", "trial"); run$tag("n", 5L); run$progress(1, 10); run$progress(2)
plot(1:3); run$log_image("scatter"); hist(c(1, 2)); png("mine.png"); plot(1); invisible(dev.off())
run$log_image("mine", "mine.png")
"""
    )
    assert json.loads(router.artifact("t")[1]) == {"a": [1, 2], "b": ["x", None], "f": ["u", "v"]}
    assert router.artifact("notes")[1] == b"some text\n"
    assert [head["tags"] for head in router.tagged("tags")] == [{"kind": "trial"}, {"n": "5"}]
    assert [(head["done"], head["total"]) for head in router.tagged("progress")] == [(1.0, 10.0), (2.0, None)]
    assert router.artifact("scatter")[1][:8] == PNG and router.artifact("mine")[1][:8] == PNG
    figures = list(script.figures())  # the page that log_image has kept is not kept again
    assert len(figures) == 1 and figures[0][1] != router.artifact("scatter")[1]


def test_outputs(play: Any) -> None:
    router = Router()
    script = RScript(Limits())
    try:
        run = Run({"run_id": "7"} | dict.fromkeys(("workspace", "experiment", "user"), "x"), router.say, router.hear)
        script.load("run$outputs$residuals <- data.frame(r = c(1.5, NA)); run$outputs[['b']] <- 1:3; run$outputs$none <- list()")
        script.run({"run": run}, {})
        outputs = run.take_outputs()
        assert list(outputs) == ["residuals", "b", "none"] and len(outputs["residuals"]) == 2
        assert outputs["b"]["c1"].tolist() == [1, 2, 3]
    finally:
        script.close()


def test_a_model_is_registered_and_loaded(play: Any) -> None:
    text = """
model <- lm(y ~ x, data.frame(x = 1:5, y = c(1, 3, 2, 5, 4)))
version <- run$register_model("fit", model, tags = list(kind = "linear"), description = "a line", alias = "champion",
                              signature = list(features = list(list(name = "x", type = "integer"))))
OutputDataSet <- version
"""
    router, script = play(text, ({"tag": "registered", "version": 3}, b""))
    assert cells(script) == [3]
    (head,) = router.tagged("register")
    assert (head["name"], head["format"], head["framework"], head["alias"]) == ("fit", "rds", "R", "champion")
    assert head["tags"] == {"kind": "linear"} and head["description"] == "a line" and head["framework_version"][0].isdigit()
    assert head["signature"] == {"features": [{"name": "x", "type": "integer"}]}
    content = b"".join(body for part, body in router.said if part["tag"] == "part")
    assert head["digest"] == hashlib.sha256(content).hexdigest() and content[:2] == b"X\n"
    end = {"tag": "model_end", "digest": head["digest"]}
    _, script = play(
        "m <- run$load_model('fit@champion'); OutputDataSet <- predict(m, data.frame(x = 6))",
        ({"tag": "model_part"}, content),
        (end, b""),
    )
    assert round(cells(script)[0], 6) == 5.4


def test_bytes_are_registered_and_loaded_as_they_are(play: Any) -> None:
    router, _ = play("stopifnot(run$register_model('b', as.raw(1:3)) == 1)", ({"tag": "registered", "version": 1}, b""))
    assert [body for head, body in router.said if head["tag"] == "part"] == [b"\1\2\3"]
    assert router.tagged("register")[0]["framework"] is None
    end = {"tag": "model_end", "digest": hashlib.sha256(b"\1\2\3").hexdigest()}
    play("stopifnot(identical(run$load_model('b'), as.raw(1:3)))", ({"tag": "model_part"}, b"\1\2\3"), (end, b""))


REFUSED = ({"tag": "refused", "sqlstate": "ML020", "message": "no model", "hint": "look"}, b"")


def test_what_dbml_refuses_is_an_error_that_a_script_catches(play: Any) -> None:
    _, script = play(
        "OutputDataSet <- tryCatch(run$load_model('m'), ModelNotFound = function(e) c(conditionMessage(e), e$sqlstate))", REFUSED
    )
    assert cells(script)[1] == "ML020" and "no model" in cells(script)[0]


def test_what_is_not_caught_is_dbmls_own_error_with_the_scripts_line(play: Any) -> None:
    with pytest.raises(errors.ModelNotFound) as caught:
        play("x <- 1\nrun$load_model('m')", REFUSED)
    assert caught.value.message == "no model" and caught.value.hint == "look"
    assert caught.value.context == "script line 2: run$load_model('m')"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("run$log('m', 'x')", "a metric's value must be a number"), ("run$log('m', 1:2)", "a metric's value must be one value"),
        ("run$log('m', TRUE)", "must be a number"), ("run$log('', 1)", "a metric's name"), ("run$log_row('r', 1)", "names"),
        ("run$log('m', 1, step = 1.5)", "must be an integer"), ("run$log_image('x', 'none.png')", "none.png"),
        ("run$log_image('x')", "no plot is open"), ("run$progress(-1)", "progress must be"), ("run$nonesuch()", "non-function"),
    ],
)  # fmt: skip
def test_bad_arguments(play: Any, text: str, words: str) -> None:
    with pytest.raises(errors.DbmlError) as caught:
        play(f"cat('before\\n')\n{text}")
    assert words in caught.value.message and "script line 2" in (caught.value.context or "")


def test_prints_come_before_what_is_logged_after_them(play: Any, capsys: pytest.CaptureFixture[str]) -> None:
    play("for (i in 1:3) { cat(i, '\\n'); run$log('i', i) }")
    assert capsys.readouterr().out == "1 \n2 \n3 \n"

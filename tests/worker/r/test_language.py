"""R scripts in a real R process: how they run, print, fail and end."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from dbml import errors
from dbml.worker.r.language import RScript
from dbml.worker.sandbox import Limits

pytestmark = pytest.mark.needs_r

Start = Callable[..., RScript]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start R processes, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    started: list[RScript] = []

    def make(**limits: Any) -> RScript:
        started.append(RScript(dataclasses.replace(Limits(), **limits)))
        return started[-1]

    yield make
    for script in started:
        script.close()
        assert not psutil.pid_exists(script.pid)


def run(script: RScript, text: str, **variables: Any) -> str:
    """Run a script and return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        script.load(text)
        script.run(variables, {})
    return printed.getvalue()


def failure(script: RScript, text: str) -> errors.DbmlError:
    with pytest.raises(errors.DbmlError) as caught:
        run(script, text)
    return caught.value


def test_prints_come_in_order_from_everywhere(start: Start) -> None:
    text = r"""
cat("one\n"); print("zwei \u00fc"); message("three"); system("echo four"); warning("five")
f <- function() warning("six")
f()
"seven"
invisible(8)
x <- 9
cat("no end")
"""
    assert run(start(), text) == ('one\n[1] "zwei ü"\nthree\nfour\nWarning: five\nWarning in f() : six\n[1] "seven"\nno end')


def test_much_is_printed_without_blocking(start: Start) -> None:
    printed = run(start(), 'x <- strrep("x", 999); for (i in 1:5000) cat(x, "\\n")')
    assert len(printed) == 5000 * 1001


def test_each_run_is_fresh_but_for_the_state(start: Start) -> None:
    script = start()
    script.load(
        "stopifnot(!exists('x'), getOption('digits') == 7); x <- 1; options(digits = 3); setwd('/'); p <- 5L\n"
        "state$n <- c(state$n, length(state$n)); OutputDataSet <- state$n"
    )
    for _ in range(3):
        script.run({"p": 1, "state": {}}, {})
    frame = script.result("OutputDataSet")
    assert frame is not None and frame["c1"].tolist() == [0, 1, 2] and script.parameter("p") == 5


def test_what_a_script_finds(start: Start) -> None:
    text = """
stopifnot(is.function(lm), is.function(plot), is.function(setClass), is.function(head), interactive() == FALSE)
stopifnot(Sys.getenv("TZ") == "UTC", l10n_info()$`UTF-8`, identical(environment(), globalenv()))
setClass("Point", representation(x = "numeric")); new("Point", x = 1)
print.odd <- function(x, ...) cat("odd\n")
structure(1, class = "odd")
source(textConnection("y <- 1")); stopifnot(y == 1)
"""
    assert run(start(), text.replace('\n")', '\\n")')) == 'An object of class "Point"\nSlot "x":\n[1] 1\n\nodd\n'


def test_names_that_the_script_takes_from_base_do_not_break_ours(start: Start) -> None:
    script = start()
    run(script, "list <- c <- lapply <- file <- prepare <- writeBin <- function(...) stop('mine')\nOutputDataSet <- 1:2")
    frame = script.result("OutputDataSet")
    assert frame is not None and frame["c1"].tolist() == [1, 2]


def test_a_model_drags_no_data_along(start: Start) -> None:
    text = """
big <- runif(1e6); d <- data.frame(x = 1:10, y = c(1, 3, 2, 5, 4, 6, 8, 7, 9, 10))
OutputDataSet <- length(serialize(lm(y ~ x, d), NULL))
"""
    script = start()
    run(script, text)
    frame = script.result("OutputDataSet")
    assert frame is not None and frame["c1"].tolist()[0] < 50_000


def test_all_connections_closed_and_sinks_left_open(start: Start) -> None:
    script = start()
    assert run(script, "closeAllConnections(); cat('on')") == "on"
    assert run(script, "sink(tempfile()); cat('lost')") == ""
    assert run(script, "cat('again')") == "again"


@pytest.mark.parametrize(
    ("text", "message", "line", "context"),
    [
        ("x <- 1\nstop('boom')", "boom", 2, "script line 2: stop('boom')"),
        (
            "f <- function(a) {\n  b <- 1\n  b + a\n}\nfor (i in 1:3) {\n  if (i == 3)\n    f('a')\n}",
            "non-numeric argument to binary operator", 3, "script line 6: if (i == 3)\nscript line 3: b + a",
        ),
        ("x <- c(1,\n  log('a'))", "non-numeric argument to mathematical function", 1, "script line 1: x <- c(1,\nin log(\"a\")"),
        ("tryCatch(stop('a'),\n  error = function(e) stop('b'))", "b", 2, None),
        ("g <- function(n) g(n + 1)\n\ng(1)", None, None, None),
        ("library(nonesuch)", "there is no package called ‘nonesuch’", 1, "script line 1: library(nonesuch)"),
        ("stop('zw\\u00f6lf')", "zwölf", 1, None),
        ("options(warn = 2)\nas.integer('x')", "(converted from warning) NAs introduced by coercion", 2, None),
        ("signalCondition('x')\nstop(structure(class = c('mine', 'error', 'condition'), list(message = 'm', call = NULL)))", "m", 2, None),
    ],
)  # fmt: skip
def test_errors_have_the_scripts_own_lines(
    start: Start, text: str, message: str | None, line: int | None, context: str | None
) -> None:
    error = failure(start(), text)
    assert isinstance(error, errors.ScriptError)
    assert message is None or error.message == message
    assert line is None or error.detail["line"] == line
    assert error.detail["line"] is not None and error.detail["type"]
    assert context is None or error.context == context


def test_a_library_that_fails_is_named(start: Start) -> None:
    error = failure(start(), "d <- 3\nlm(y ~ x, data = d)")
    assert (error.context or "").startswith("script line 2: lm(y ~ x, data = d)\nin model.frame.default(")


@pytest.mark.parametrize(
    ("text", "message", "context"),
    [
        ("x <- 1\ny = = 2", "unexpected '='", "script line 2: y = = 2\n" + " " * 19 + "^"),
        ("f <- function() {\n\n", "unexpected end of input", "script line 1: f <- function() {\n" + " " * 32 + "^"),
        ("'open", "unexpected INCOMPLETE_STRING", None),
        ("a b", "unexpected symbol", None),
    ],
)
def test_syntax_errors(start: Start, text: str, message: str, context: str | None) -> None:
    error = failure(start(), text)
    assert isinstance(error, errors.ScriptSyntaxError) and error.message == message
    assert context is None or error.context == context


@pytest.mark.parametrize("call", ["q('no', 3)", "quit(status = 3)", "base::quit(status = 3)"])
def test_quit(start: Start, call: str) -> None:
    error = failure(start(), f"x <- 1\nf <- function() {call}\nf()")
    assert isinstance(error, errors.ScriptExit) and error.message == "the script called quit(status = 3)"
    assert error.detail["code"] == 3 and error.detail["line"] == (None if "base" in call else 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tools::pskill(Sys.getpid(), 9); Sys.sleep(60)", "R was killed by signal 9 (SIGKILL)"),
        ("tools::pskill(Sys.getpid(), 11); Sys.sleep(60)", "R was killed by signal 11 (SIGSEGV)"),
    ],
)
def test_sudden_ends(start: Start, text: str, message: str) -> None:
    error = failure(start(), text)
    assert isinstance(error, errors.ScriptCrashed) and error.message == message


def test_a_crash_is_told_though_a_child_holds_the_pipes(start: Start) -> None:
    script = start()
    text = "system('sleep 600 & echo $! > pid'); tools::pskill(Sys.getpid(), 9); Sys.sleep(60)"
    assert isinstance(failure(script, text), errors.ScriptCrashed)
    psutil.Process(int(Path("pid").read_text())).kill()


@pytest.mark.parametrize("text", ["x <- numeric(1e9)", "x <- list(); repeat x <- c(x, list(numeric(1e6)))"])
def test_memory(start: Start, text: str) -> None:
    script = start(memory_mb=200)
    error = failure(script, text)
    assert isinstance(error, errors.LimitExceeded) and error.detail == {"limit": "memory_mb", "value": 200}
    assert (error.context or "").startswith("script line 1: ")


def test_processor_time(start: Start) -> None:
    script = start(cpu_seconds=1)
    run(script, "1")
    resource.prlimit(script.pid, resource.RLIMIT_CPU, (1, 6))
    error = failure(script, "repeat {}")
    assert isinstance(error, errors.LimitExceeded) and error.detail["limit"] == "cpu_seconds"


def test_the_largest_file(start: Start) -> None:
    script = start(scratch_mb=1)
    run(script, "1")
    resource.prlimit(script.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    error = failure(script, "writeBin(raw(2e6), 'file')")
    assert isinstance(error, errors.LimitExceeded) and error.detail["limit"] == "scratch_mb"


def test_a_process_that_the_script_forks_is_not_the_script(start: Start) -> None:
    text = """
made <- parallel::mclapply(1:4, function(x) { tryCatch(run$log("x", 1), error = function(e) conditionMessage(e)) }, mc.cores = 2)
OutputDataSet <- unlist(made)
"""
    script = start()
    script.load(text)
    script.run({"run": _nobody()}, {})
    frame = script.result("OutputDataSet")
    assert frame is not None and set(frame["c1"]) == {
        "run must be used by the script's own process, not by one that it has forked"
    }


def _nobody() -> Any:
    from dbml.worker.run import Run

    return Run({"run_id": "7", "workspace": "w", "experiment": None, "user": "u"}, pytest.fail, pytest.fail)


@pytest.mark.parametrize("name", ["x", "InputDataSet", "é", "a.b", ".x", "x1_2", "T"])
def test_names_of_variables(start: Start, name: str) -> None:
    script = start()
    script.check_name(name, "a name")
    assert run(script, f"cat({name})", **{name: "ü"}) == "ü"


@pytest.mark.parametrize("name", ["1x", "a b", "_x", "if", "NA_integer_", "", ".1x", "run", "...", "x-y"])
def test_names_that_are_no_variables(start: Start, name: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="a name must"):
        start().check_name(name, "a name")


def test_without_r_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(errors.LanguageMissing) as caught:
        RScript(Limits())
    assert caught.value.hint == "apt-get install r-base-core, then restart the worker"


def test_plots_are_pages(start: Start) -> None:
    script = start()
    assert run(script, "plot(1:3); hist(c(1, 2, 2)); pdf(tempfile()); plot(1); invisible(dev.off())") == ""
    found = list(script.figures())
    assert [name for name, _ in found] == ["figure 1", "figure 2"] and all(png[:4] == b"\x89PNG" for _, png in found)
    run(script, "1")
    assert list(script.figures()) == []
    run(script, "plot(1)")
    assert len(list(script.figures())) == 1

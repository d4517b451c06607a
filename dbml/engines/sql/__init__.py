"""The engine `sql`: a fitted model as functions of SQL, and the rows that prove them equal.

`compile_model` is called where the model may be unpickled, and answers text and arrays; what becomes of them is the
database's affair (sql/45_engines), which lets nothing through that is not arithmetic.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dbml import errors
from dbml.engines.python import PythonEngine
from dbml.engines.sql.compiler import Column, Compiler, Hints
from dbml.engines.sql.expressions import Expr, Input, Kind, Program, prune
from dbml.engines.sql.inputs import kinds
from dbml.engines.sql.probes import Probes, answers, make_probes
from dbml.engines.sql.registry import translate
from dbml.engines.sql.render import Body, Renderer

MOST_ARGUMENTS = 100  # of a function, PostgreSQL's FUNC_MAX_ARGS
MOST_INPUTS = 1600
# Written as CASE for queries; beyond, scikit-learn scores whole chunks faster (docs/decisions/0013).
MOST_CASE_STEPS = 300  # comparisons a row
MOST_CASE_NODES = 8_000
MOST_BODY = 16 << 20  # bytes
ROW_CASE_NODES = 60  # for one row a walk over arrays is faster from there on
TOLERANCE, TREE_TOLERANCE = 1e-9, 1e-12
_PREDICTED = {"float8": "float", "int8": "int", "bool": "bool", "text": "text"}


@dataclass
class Function:
    """One function: of arguments c1, c2, … (form set), or of one array f (form row)."""

    method: str
    form: str
    body: Body


@dataclass
class Compiled:
    """A model in SQL, and its proof to come.

    answers: by method, one answer a probe, None where the model raised; scales: by method, the size of ordinary answers,
    below which errors are measured against it instead of the answer itself.
    """

    kinds: list[Kind]
    features: list[str] | None
    functions: list[Function]
    refused: dict[str, str]  # by form, why there is no function of it, or why it is used only where it is asked for
    probes: Probes
    answers: dict[str, list[Any]] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    tolerance: float = TOLERANCE
    seconds: float = 0.0


@dataclass
class Translated:
    """A model as programs, by method, and what its translators know."""

    kinds: list[Kind]
    features: list[str] | None
    programs: dict[str, Program]
    hints: Hints
    tolerance: float  # of the model's own arithmetic, 0 where that is float64
    deadline: float

    @property
    def forest_nodes(self) -> int:
        """Count the nodes of all trees."""
        return max(program.forest_nodes for program in self.programs.values())


def translate_model(engine: PythonEngine, time_limit_s: float = 20.0, features: Sequence[str] | None = None) -> Translated:
    """Translate a fitted model; features: names of the inputs, where they are not the estimator's own.

    Raises: NotCompiled, with the step of the pipeline and why.
    """
    compiler = Compiler(translate, time.monotonic() + time_limit_s)
    estimator = engine.estimator
    width = engine.n_features
    if width is None and features is not None:
        width = len(features)
    if width is None or not 1 <= width <= MOST_INPUTS:
        raise errors.NotCompiled(
            "the model does not say how many features it takes" if width is None
            else f"{width} features, not between 1 and {MOST_INPUTS}"
        )  # fmt: skip
    kinds_ = kinds(estimator, width)
    inputs = [Column(Input(i, kind), frozenset([i]) if kind == "float" else frozenset()) for i, kind in enumerate(kinds_)]
    if "text" in kinds_ and width > MOST_ARGUMENTS:
        raise errors.NotCompiled(f"{width} features, more than {MOST_ARGUMENTS}, and some of them text")
    try:
        found = compiler.predict(estimator, inputs)
    except (AttributeError, KeyError, IndexError, ValueError, TypeError) as error:  # not fitted as its translator supposes
        raise errors.NotCompiled(f"{type(estimator).__name__}: {type(error).__name__}: {error}") from error
    compiler.finish()
    programs = {"predict": prune(Program(list(compiler.steps), found.value))}
    _check_kind(engine, found.value)
    if found.proba is not None and engine.has_proba:
        programs["predict_proba"] = prune(Program(list(compiler.steps), found.proba))
    names = engine.features if features is None else list(features)
    return Translated(kinds_, names, programs, compiler.hints, compiler.tolerance, compiler.deadline)


def compile_model(engine: PythonEngine, time_limit_s: float = 20.0, features: Sequence[str] | None = None) -> Compiled:
    """Compile a fitted model; errors and features as of `translate_model`."""
    began = time.monotonic()
    translated = translate_model(engine, time_limit_s, features)
    programs, kinds_ = translated.programs, translated.kinds
    functions, refused = _render(programs, kinds_)
    if not functions:
        raise errors.NotCompiled("; ".join(f"{form}: {why}" for form, why in refused.items()))
    probes = make_probes(kinds_, translated.hints)
    made = Compiled(kinds_, translated.features, functions, refused, probes)
    for method in programs:
        if time.monotonic() > translated.deadline:
            raise errors.NotCompiled(f"it takes longer to prove than {time_limit_s:g} s")
        made.answers[method] = answers(engine, method, probes, kinds_)
        made.scales[method] = scale_of(made.answers[method][: probes.ordinary])
    made.tolerance = max(translated.tolerance, TREE_TOLERANCE if translated.forest_nodes else TOLERANCE)
    made.seconds = time.monotonic() - began
    return made


def _check_kind(engine: PythonEngine, value: Expr | list[Expr]) -> None:
    kind = "array:float8" if isinstance(value, list) else {v: k for k, v in _PREDICTED.items()}[value.kind]
    if engine.kind != kind:
        raise errors.NotCompiled(f"{type(engine.estimator).__name__}: the model predicts {engine.kind}, the expression {kind}")


def _render(programs: dict[str, Program], kinds_: Sequence[Kind]) -> tuple[list[Function], dict[str, str]]:
    functions: list[Function] = []
    refused: dict[str, str] = {}
    forms = {"row": Renderer(array=True, walk=ROW_CASE_NODES), "set": Renderer(array=False, walk=MOST_CASE_NODES)}
    for form, renderer in forms.items():
        if form == "row" and "text" in kinds_:
            refused[form] = "some features are text, an array of numbers cannot hold them"
            continue
        if form == "set" and len(kinds_) > MOST_ARGUMENTS:
            refused[form] = f"{len(kinds_)} features, a function takes {MOST_ARGUMENTS} arguments"
            continue
        for method, program in programs.items():
            if form == "set" and program.forest_nodes > MOST_CASE_NODES:
                refused[form] = (
                    f"{program.forest_nodes} nodes, more than the {MOST_CASE_NODES} that are faster than the model itself"
                )
                continue
            if form == "set" and (steps := round(program.forest_steps)) > MOST_CASE_STEPS:
                refused[form] = (
                    f"{steps} comparisons a row, more than the {MOST_CASE_STEPS} that are faster than the model itself"
                )
            body = renderer.body(program, len(kinds_))
            if len(body.text) > MOST_BODY:
                refused[form] = f"a function of {len(body.text) >> 20} MB, more than {MOST_BODY >> 20} MB"
                continue
            functions.append(Function(method, form, body))
    return functions, refused


def scale_of(found: Sequence[Any]) -> float:
    """Return the median size of answers that are numbers, 0 for labels."""
    known = [np.atleast_1d(answer) for answer in found if answer is not None]
    if not known or known[0].dtype.kind not in "fiu":
        return 0.0
    sizes = np.abs(np.concatenate(known).astype(float))
    sizes = sizes[np.isfinite(sizes)]
    return float(np.median(sizes)) if len(sizes) else 0.0

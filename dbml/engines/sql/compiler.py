"""The compiler's state while it goes through a pipeline: the program so far, what is known of each column, the path.

Translators (one module a family, listed in `registry`) take it as their first argument and answer columns or predictions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dbml import errors
from dbml.engines.sql.expressions import (
    Binary,
    Case,
    Cast,
    Const,
    Expr,
    Finite,
    Forest,
    Guard,
    Input,
    Kind,
    Let,
    Missing,
    Step,
    Sum,
    Tree,
    Var,
    call,
)

MOST_NODES = 400_000  # of all trees
TIE = 1e-12  # how near two scores of the size of 1 may be, for rounding to have the say
SINGLE_TIE = 1e-6  # the same for scores that are told apart in float32
SINGLE_TOLERANCE = 2.0**-22  # two units in the last place of a float32
MOST_TERMS = 200_000  # expressions that a program may have


@dataclass(slots=True)
class Hints:
    """What translators know of the inputs: values at which answers change, ranges of training, categories."""

    thresholds: list[tuple[int, float]] = field(default_factory=list)
    ranges: dict[int, list[float]] = field(default_factory=dict)
    categories: dict[int, list[Any]] = field(default_factory=dict)
    forests: list[Forest] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One column on its way through a pipeline.

    roots: the inputs that it is not finite without; none where it is finite whatever they are.  A column whose root is
    missing is NULL or NaN itself.
    """

    expr: Expr
    roots: frozenset[int] = frozenset()


@dataclass(slots=True)
class Prediction:
    """What a predictor gives: a value (or a list of floats), and for classifiers more.

    value: the regression's value, or the label; scores: what decision_function gives, one or one a class;
    proba: a probability a class.
    """

    value: Expr | list[Expr]
    proba: list[Expr] | None = None
    scores: list[Expr] | None = None
    classes: list[Any] | None = None


@dataclass(slots=True)
class Compiler:
    """Collects the steps of a program.

    deadline: by time.monotonic(); translators that loop call `check`.
    """

    translate: Callable[[Compiler, str, Any, Sequence[Column]], Any]
    deadline: float
    steps: list[Step] = field(default_factory=list)
    hints: Hints = field(default_factory=Hints)
    tolerance: float = 0.0  # of the model's own arithmetic, where that is coarser than float8
    _path: list[str] = field(default_factory=list)
    _finite: set[int] = field(default_factory=set)
    _bounded: set[int] = field(default_factory=set)
    _count: int = 0
    _terms: int = 0

    # --- the path -------------------------------------------------------------------------------------------------------

    @contextmanager
    def at(self, name: str) -> Iterator[None]:
        """Name the step that is translated, for errors."""
        self._path.append(name)
        yield
        self._path.pop()

    def refusal(self, why: str) -> errors.NotCompiled:
        """Make the error that refuses the model, naming the step."""
        where = " > ".join(self._path)
        return errors.NotCompiled(f"{where}: {why}", detail={"step": where, "why": why})

    def check(self, terms: int = 0) -> None:
        """Count what is made, and look at the clock.

        Raises: NotCompiled beyond a limit.
        """
        self._terms += terms
        if self._terms > MOST_TERMS:
            raise self.refusal(f"more than {MOST_TERMS} terms")
        if time.monotonic() > self.deadline:
            raise self.refusal("it takes longer to compile than the time limit")

    def transform(self, estimator: Any, columns: Sequence[Column]) -> list[Column]:
        """Return the columns that a fitted transformer makes."""
        if estimator is None or isinstance(estimator, str):
            return list(columns) if estimator in (None, "passthrough") else []
        with self.at(type(estimator).__name__):
            found: list[Column] = self.translate(self, "transform", estimator, columns)
            return found

    def predict(self, estimator: Any, columns: Sequence[Column]) -> Prediction:
        """Return what a fitted predictor gives."""
        with self.at(type(estimator).__name__):
            found: Prediction = self.translate(self, "predict", estimator, columns)
            return found

    # --- hints ----------------------------------------------------------------------------------------------------------

    def span(self, column: Column, low: float, high: float) -> None:
        """Note a range of an input's values, where the column is the input itself."""
        if isinstance(column.expr, Input) and np.isfinite(low) and np.isfinite(high):
            known = self.hints.ranges.setdefault(column.expr.position, [low, high])
            known[:] = [min(low, known[0]), max(high, known[1])]

    def spans(self, columns: Sequence[Column], middle: Any, width: Any) -> None:
        """Note middle - width to middle + width of each column; either may be one for all, or None."""
        middles = np.broadcast_to(np.asarray(0.0 if middle is None else middle, dtype=float), (len(columns),))
        widths = np.broadcast_to(np.asarray(1.0 if width is None else width, dtype=float), (len(columns),))
        for column, m, w in zip(columns, middles, widths, strict=True):
            self.span(column, float(m - w), float(m + w))

    def cut(self, column: Column, limit: float) -> None:
        """Note a value at which answers change, where the column is the input itself."""
        if isinstance(column.expr, Input):
            self.hints.thresholds.append((column.expr.position, limit))

    def listed(self, column: Column, codes: Sequence[float]) -> None:
        """Note categories that are numbers, where the column is the input itself."""
        if isinstance(column.expr, Input):
            known = self.hints.categories.setdefault(column.expr.position, [])
            known += [code for code in codes if code not in known]

    def loosen(self, tolerance: float) -> None:
        """Note that the model rounds more coarsely than the compiled form can follow."""
        self.tolerance = max(self.tolerance, tolerance)

    # --- steps ----------------------------------------------------------------------------------------------------------

    def let(self, expr: Expr) -> Var:
        """Compute a value once and return its variable."""
        if isinstance(expr, Var):
            return expr
        self.check(1)
        var = self.new(expr.kind)
        self.steps.append(Let(var, expr))
        return var

    def new(self, kind: Kind = "float") -> Var:
        """Return a variable that nothing has computed yet."""
        self._count += 1
        return Var(self._count, kind)

    def guard(self, condition: Expr) -> None:
        """Leave rows for which a condition is not true to the model itself."""
        self.steps.append(Guard(condition))

    def need_floats(self, columns: Sequence[Column]) -> None:
        """Refuse text where an estimator takes numbers."""
        if any(column.expr.kind == "text" for column in columns):
            raise self.refusal("a column of text where it takes numbers")

    def need_finite(self, columns: Sequence[Column]) -> None:
        """Leave rows with a missing or infinite value to the model, which refuses them in its own words."""
        wanted = sorted({root for column in columns for root in column.roots} - self._finite)
        if not wanted:
            return
        self._finite.update(wanted)
        # x * 0 is NaN for what is not finite, and a sum with it too; NULL likewise.
        terms = tuple(Binary("*", Input(root), Const(0.0)) for root in wanted)
        self.guard(Binary("=", terms[0] if len(terms) == 1 else Sum(terms), Const(0.0)))

    def finite_with(self, columns: Sequence[Column], value: Expr) -> Var:
        """Return a value's variable, and leave rows where it is not finite to the model.

        The value must be a sum in which every column has its part, so that a missing or infinite one shows in it.
        """
        var = self.let(value)
        if not self._finite.issuperset(root for column in columns for root in column.roots):
            self.guard(Finite(var))
            self.known_finite(columns)
        return var

    def bar_infinity(self, columns: Sequence[Column]) -> None:
        """Leave rows with an infinite value to the model, where later steps would not see it."""
        self.no_infinity(columns)
        roots = {root for column in columns for root in column.roots} & self._bounded
        for root in sorted(roots - self._finite):
            self.guard(Binary("or", Missing(Input(root)), Finite(Input(root))))
        self._bounded -= roots

    def known_finite(self, columns: Sequence[Column]) -> None:
        """Note that the steps so far let no row through in which a column is missing or infinite."""
        self._finite.update(root for column in columns for root in column.roots)

    def no_infinity(self, columns: Sequence[Column]) -> None:
        """Leave rows with an infinite value to the model, unless a later step asks for more than that anyway."""
        for root in {root for column in columns for root in column.roots} - self._finite:
            self._bounded.add(root)

    def finish(self) -> None:
        """Add the guards that no step has made superfluous."""
        for root in sorted(self._bounded - self._finite):
            self.guard(Binary("or", Missing(Input(root)), Finite(Input(root))))

    def forest(
        self, trees: list[Tree], columns: Sequence[Column], outputs: int, *, allow_missing: bool,
        starts: tuple[float, ...] | None = None,
    ) -> list[Var]:  # fmt: skip
        """Add up the leaves of trees; with starts in float32, from these on.

        Raises: NotCompiled for more nodes than MOST_NODES.
        """
        variables = [self.new("float" if starts is None else "single") for _ in range(outputs)]
        exprs = [column.expr for column in columns]
        if any(not isinstance(expr, Var) and expr.children() for expr in exprs):
            # Computed once, not at each node.
            used = {int(f) for tree in trees for f in tree.feature[tree.inner]}
            exprs = [self.let(expr) if i in used and expr.children() else expr for i, expr in enumerate(exprs)]
        made = Forest(trees, exprs, variables, allow_missing, starts)
        if made.nodes > MOST_NODES:
            raise self.refusal(f"{made.nodes} nodes, more than {MOST_NODES}")
        self.check()
        self.steps.append(made)
        self.hints.forests.append(made)
        for tree in trees:
            inner = tree.inner
            if len(inner):
                limits = tree.threshold[inner]
                for feature in np.unique(tree.feature[inner]):
                    own = limits[(tree.feature[inner] == feature) & (np.abs(limits) < 1e37)]  # beyond: all but missing ones
                    if len(own) == 0:
                        continue
                    self.span(columns[int(feature)], float(own.min()), float(own.max()))
            for node, choice in tree.categories.items():
                self.listed(columns[int(tree.feature[node])], (*choice.left, *choice.right))
        return variables if starts is None else [self.let(Cast(variable)) for variable in variables]

    # --- what many translators share --------------------------------------------------------------------------------------

    def labels(self, classes: Any) -> list[Any]:
        """Return a classifier's labels as constants.

        Raises: NotCompiled for labels that are neither text, whole numbers nor booleans.
        """
        if not isinstance(classes, np.ndarray) or classes.ndim != 1:
            raise self.refusal("several outputs")
        plain: list[Any] = classes.tolist()
        types = {type(label) for label in plain}
        if types == {int} or types == {bool} or types == {float}:
            return plain
        if types == {str}:
            if any("\\" in label or not label.isprintable() for label in plain):
                raise self.refusal("a label with a backslash or a character that is not printable")
            return plain
        raise self.refusal(f"labels of type {', '.join(sorted(t.__name__ for t in types))}")

    def choose(self, labels: Sequence[Any], scores: Sequence[Expr], tie: Expr | float | None = None) -> Expr:
        """Return the label whose score is the largest, the first of several.

        tie: a difference that rounding might have made; where the largest is not ahead by more, the model itself decides.
        """
        variables = [self.let(score) for score in scores]
        most = self.let(call("greatest", *variables)) if len(variables) > 1 else variables[0]
        branches = [(score.equals(most), Const(label)) for score, label in zip(variables, labels, strict=True)]
        label = Case(tuple(branches[:-1]), Const(labels[-1])) if len(branches) > 1 else Const(labels[0])
        if tie is None or len(variables) == 1:
            return label
        near = self.let(most - tie)
        ahead = Sum(tuple(Case(((score >= near, Const(1.0)),), Const(0.0)) for score in variables))
        return Case(((ahead.equals(1.0), label),))

    def by_sign(self, z: Expr, low: Any, high: Any, tie: float = TIE, *, zero_is_high: bool = False) -> Expr:
        """Return the label of a score's sign; where rounding might have made it, the model itself decides."""
        z = self.let(z)
        label = Case((((z >= 0.0) if zero_is_high else (z > 0.0), Const(high)),), Const(low))
        return Case(((call("abs", z) > tie, label),))

    def sigmoid(self, z: Expr) -> Expr:
        """Return 1 / (1 + exp(-z)), without overflow."""
        z = self.let(z)
        power = self.let(Case(((Binary("<", z, Const(-745.0)), Const(0.0)), (Binary(">", z, Const(745.0)), Const(0.0)),
                               (Binary("<", z, Const(0.0)), call("exp", z))), call("exp", -z)))  # fmt: skip
        return Case((((z < 0.0), power / (power + 1.0)),), Const(1.0) / (power + 1.0))

    def exp(self, z: Expr) -> Expr:
        """Return the exponential of what is 0 or less, which is 0 where PostgreSQL would raise."""
        z = self.let(z)
        return Case(((Binary("<", z, Const(-745.0)), Const(0.0)),), call("exp", z))

    def softmax(self, scores: Sequence[Expr]) -> list[Expr]:
        """Return exp(scores) normalized to add up to 1."""
        variables = [self.let(score) for score in scores]
        most = self.let(call("greatest", *variables))
        powers = [self.let(self.exp(variable - most)) for variable in variables]
        whole = self.let(Sum(tuple(powers)))
        return [power / whole for power in powers]


LARGEST_SHIFT = 1e4  # of a column, in units of its scale: what is lost in the intercept is 1e-12 of the sum


def affine(columns: Sequence[Column], weights: Any, intercept: float) -> Expr:
    """Return the weighted sum of columns; those that are finite anyway and weigh nothing are left out.

    What scalers have done to a column goes into its weight and the intercept.
    """
    terms: list[Expr] = []
    start = float(intercept)
    for column, given in zip(columns, weights, strict=True):
        if float(given) == 0.0 and not column.roots:
            continue
        expr, weight, shift = _unscaled(column.expr, float(given))
        terms.append(expr * weight)
        start += shift
    if start != 0.0 or not terms:
        terms.append(Const(start))
    return terms[0] if len(terms) == 1 else Sum(tuple(terms))


def _unscaled(expr: Expr, weight: float) -> tuple[Expr, float, float]:
    """Return what was scaled, its weight, and what is to be added: weight * expr, but for rounding."""
    whole, given = expr, weight
    scale: float | None = None
    shift = 0.0
    while True:
        match expr:
            case Binary("/", left, Const(float() as by)) if by != 0.0:
                weight, scale, expr = weight / by, abs(by if scale is None else by * scale), left
            case Binary("*", left, Const(float() as by)) if by != 0.0:
                weight, scale, expr = weight * by, abs(1.0 / by if scale is None else scale / by), left
            case Binary("-", left, Const(float() as less)) if scale is not None and abs(less) <= LARGEST_SHIFT * scale:
                shift, expr = shift - weight * less, left
            case Sum((left, Const(float() as more))) if abs(more) <= LARGEST_SHIFT:
                shift, expr = shift + weight * more, left
            case _:
                break
    sound = np.isfinite([weight, shift]).all() and (weight != 0.0 or given == 0.0)
    return (expr, weight, shift) if sound else (whole, given, 0.0)

"""Expressions: what a compiled model is made of, before it is text.

An expression is a value a row: float (float8, NULL and NaN for a missing value), single (float4), bool, int or text.  It knows
nothing of estimators and nothing of SQL's spelling: translators build it, `render` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["float", "single", "bool", "int", "text"]


class Expr:
    """A value a row; arithmetic and comparisons of floats are written as in Python."""

    __slots__ = ()
    kind: Kind

    def __add__(self, other: Expr | float) -> Expr:
        return Sum((self, lift(other)))

    def __sub__(self, other: Expr | float) -> Expr:
        return Binary("-", self, lift(other))

    def __mul__(self, other: Expr | float) -> Expr:
        return Binary("*", self, lift(other))

    def __truediv__(self, other: Expr | float) -> Expr:
        return Binary("/", self, lift(other))

    def __neg__(self) -> Expr:
        return Binary("-", Const(0.0), self)

    def __lt__(self, other: Expr | float) -> Expr:
        return Binary("<", self, lift(other))

    def __le__(self, other: Expr | float) -> Expr:
        return Binary("<=", self, lift(other))

    def __gt__(self, other: Expr | float) -> Expr:
        return Binary(">", self, lift(other))

    def __ge__(self, other: Expr | float) -> Expr:
        return Binary(">=", self, lift(other))

    def equals(self, other: Expr | float | str) -> Expr:
        """Compare for equality; `==` stays Python's own."""
        return Binary("=", self, lift(other))

    def children(self) -> Sequence[Expr]:
        """Return the expressions that this one is made of."""
        return ()


@dataclass(frozen=True, slots=True, eq=False)
class Input(Expr):
    """The feature at a position from 0."""

    position: int
    kind: Kind = "float"


@dataclass(frozen=True, slots=True, eq=False)
class Var(Expr):
    """A value that an earlier step of the program has computed."""

    number: int
    kind: Kind = "float"


@dataclass(frozen=True, slots=True, eq=False)
class Const(Expr):
    """A value that is the same for every row."""

    value: Any

    @property
    def kind(self) -> Kind:  # type: ignore[override]
        """Return the kind of the value."""
        if isinstance(self.value, bool):
            return "bool"
        return "int" if isinstance(self.value, int) else "float" if isinstance(self.value, float) else "text"


@dataclass(frozen=True, slots=True, eq=False)
class Binary(Expr):
    """Two values and an operator between them."""

    operator: Literal["-", "*", "/", "<", "<=", ">", ">=", "=", "and", "or"]
    left: Expr
    right: Expr

    @property
    def kind(self) -> Kind:  # type: ignore[override]
        """Return float for arithmetic, bool for the rest."""
        return "float" if self.operator in "-*/" else "bool"

    def children(self) -> Sequence[Expr]:
        """Return both sides."""
        return (self.left, self.right)


@dataclass(frozen=True, slots=True, eq=False)
class Sum(Expr):
    """A sum of many terms, from the left."""

    terms: tuple[Expr, ...]
    kind: Kind = "float"

    def __add__(self, other: Expr | float) -> Expr:
        return Sum((*self.terms, lift(other)))

    def children(self) -> Sequence[Expr]:
        """Return the terms."""
        return self.terms


@dataclass(frozen=True, slots=True, eq=False)
class Call(Expr):
    """A function of floats that PostgreSQL computes as C does: exp, ln, sqrt, abs, tanh, floor, greatest, least."""

    function: str
    arguments: tuple[Expr, ...]
    kind: Kind = "float"

    def children(self) -> Sequence[Expr]:
        """Return the arguments."""
        return self.arguments


@dataclass(frozen=True, slots=True, eq=False)
class Case(Expr):
    """The value of the first branch whose condition is true, else otherwise (None: NULL)."""

    branches: tuple[tuple[Expr, Expr], ...]
    otherwise: Expr | None = None

    @property
    def kind(self) -> Kind:  # type: ignore[override]
        """Return the kind of the values."""
        return self.branches[0][1].kind

    def children(self) -> Sequence[Expr]:
        """Return conditions and values."""
        found = [part for branch in self.branches for part in branch]
        return found if self.otherwise is None else [*found, self.otherwise]


@dataclass(frozen=True, slots=True, eq=False)
class Missing(Expr):
    """Whether a value is missing: NULL, or NaN where it is a float."""

    value: Expr
    kind: Kind = "bool"

    def children(self) -> Sequence[Expr]:
        """Return the value."""
        return (self.value,)


@dataclass(frozen=True, slots=True, eq=False)
class Finite(Expr):
    """Whether a float is a number and not infinite; not true of a missing value."""

    value: Expr
    kind: Kind = "bool"

    def children(self) -> Sequence[Expr]:
        """Return the value."""
        return (self.value,)


@dataclass(frozen=True, slots=True, eq=False)
class Cast(Expr):
    """A float rounded to float32 (kind single), or a single widened to a float."""

    value: Expr
    kind: Kind = "float"

    def children(self) -> Sequence[Expr]:
        """Return the value."""
        return (self.value,)


def lift(value: Expr | float | str | bool) -> Expr:
    """Make a constant of a plain value."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, str | bool):
        return Const(value)
    return Const(float(value))


def call(function: str, *arguments: Expr | float) -> Expr:
    """Call a function of floats."""
    return Call(function, tuple(lift(argument) for argument in arguments))


def total(terms: Sequence[Expr]) -> Expr:
    """Add terms from the left."""
    return Const(0.0) if not terms else terms[0] if len(terms) == 1 else Sum(tuple(terms))


def both(conditions: Sequence[Expr]) -> Expr:
    """Join conditions by and."""
    joined = conditions[0]
    for condition in conditions[1:]:
        joined = Binary("and", joined, condition)
    return joined


# --- the steps of a program ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Let:
    """Compute a value once."""

    var: Var
    expr: Expr


@dataclass(slots=True)
class Guard:
    """Go on only where the condition is true: the others are for the model itself."""

    condition: Expr


@dataclass(frozen=True, slots=True)
class Choice:
    """Where the categories go that a node asks for: left, right, and other_left those that are in neither list."""

    left: tuple[float, ...]
    right: tuple[float, ...]
    other_left: bool


@dataclass(slots=True)
class Tree:
    """A binary tree of decisions, in arrays.  Node 0 is the root; a child of -1 makes a leaf.

    At an inner node a row goes left where its feature <= threshold (float8, whatever rounding of the feature comes first is
    in the threshold already), a missing one where missing_left.  categories: of a node that asks for membership instead.
    value: (n_nodes, n_outputs), of leaves.
    """

    feature: npt.NDArray[Any]
    threshold: npt.NDArray[Any]
    left: npt.NDArray[Any]
    right: npt.NDArray[Any]
    missing_left: npt.NDArray[Any]
    value: npt.NDArray[Any]
    categories: dict[int, Choice] = field(default_factory=dict)

    @property
    def inner(self) -> npt.NDArray[Any]:
        """Return the inner nodes."""
        return np.flatnonzero(self.left >= 0)

    @property
    def steps(self) -> float:
        """Return the mean depth of the leaves: about as many comparisons decide a row."""
        level, depth, total, leaves = np.array([0]), 0, 0, 0
        while len(level):
            ends = self.left[level] < 0
            total += depth * int(ends.sum())
            leaves += int(ends.sum())
            inner = level[~ends]
            level, depth = np.concatenate([self.left[inner], self.right[inner]]), depth + 1
        return total / leaves


@dataclass(slots=True)
class Forest:
    """Add up the leaves' values of trees into variables, one an output.

    allow_missing: features may be missing; inputs: the features, by the trees' own numbers.  starts: for outputs of kind
    single, what each begins with: they are added up in float32, tree by tree, as the model itself does.
    """

    trees: list[Tree]
    inputs: list[Expr]
    outputs: list[Var]
    allow_missing: bool
    starts: tuple[float, ...] | None = None

    @property
    def nodes(self) -> int:
        """Count the nodes of all trees."""
        return sum(len(tree.left) for tree in self.trees)


Step = Let | Guard | Forest


@dataclass(slots=True)
class Program:
    """Steps, then the result: one value a row, or a list of floats (an array).

    The result is NULL, or not finite, where a row is for the model itself to answer (or to refuse).
    """

    steps: list[Step]
    result: Expr | list[Expr]

    def expressions(self) -> Iterator[Expr]:
        """Yield what steps and result ask for, without what is inside."""
        for step in self.steps:
            match step:
                case Let(_, expr):
                    yield expr
                case Guard(condition):
                    yield condition
                case Forest(inputs=inputs):
                    yield from inputs
        yield from self.result if isinstance(self.result, list) else [self.result]

    @property
    def forest_nodes(self) -> int:
        """Count the nodes of all trees."""
        return sum(step.nodes for step in self.steps if isinstance(step, Forest))

    @property
    def forest_steps(self) -> float:
        """Return how many comparisons decide a row, in all trees."""
        return sum(tree.steps for step in self.steps if isinstance(step, Forest) for tree in step.trees)


def vars_in(expr: Expr) -> Iterator[int]:
    """Yield the number of each variable in an expression, as often as it is there."""
    stack = [expr]
    while stack:
        each = stack.pop()
        if isinstance(each, Var):
            yield each.number
        else:
            stack.extend(each.children())


def prune(program: Program) -> Program:
    """Drop the steps that the result does not need, and the variable that is used once, as the result.

    A guard that only says that the result is finite is dropped too: whoever takes the result asks that anyway.
    """
    needed: set[int] = set()
    for expr in program.result if isinstance(program.result, list) else [program.result]:
        needed |= set(vars_in(expr))
    kept: list[Step] = []
    for step in reversed(program.steps):
        match step:
            case Let(var, expr) if var.number not in needed:
                continue
            case Forest(outputs=outputs) if not needed & {var.number for var in outputs}:
                continue
            case Guard(Finite(value)) if isinstance(value, Var) and value is program.result:
                continue
            case Let(var, expr):
                needed |= set(vars_in(expr))
            case Guard(condition):
                needed |= set(vars_in(condition))
            case Forest(inputs=inputs):
                for expr in inputs:
                    needed |= set(vars_in(expr))
        kept.append(step)
    kept.reverse()
    result = program.result
    if kept and isinstance(last := kept[-1], Let) and last.var is result:
        result = last.expr
        kept.pop()
    return Program(kept, result)

"""Rendering: a program as the body of a SQL or PL/pgSQL function.

The text holds nothing but the words and marks that sql/45_engines/make_compiled.sql lets through: no name that the search
path would look up, no statement, no call but of PostgreSQL's own arithmetic.  A float is written '…'::float8, with the
digits that read back as the same float: without the cast it would be numeric, exact and ten times as slow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dbml.engines.sql.blocks import Blocks, Limits, cut
from dbml.engines.sql.expressions import (
    Binary,
    Call,
    Case,
    Cast,
    Choice,
    Const,
    Expr,
    Finite,
    Forest,
    Guard,
    Input,
    Let,
    Missing,
    Program,
    Sum,
    Tree,
    Var,
    vars_in,
)

SUM_WIDTH = 60  # terms in a row: PostgreSQL's parser and executor go one level deeper for each
FLAT_NODES = 4000  # of trees in one expression: the planner reads them anew for every query
NAN = "'NaN'::float8"
_TYPES = {"float": "float8", "single": "float4", "bool": "boolean", "int": "bigint", "text": "text"}


@dataclass(frozen=True)
class Body:
    """The body of a function: an expression (language sql, can be inlined) or a block of PL/pgSQL."""

    language: str
    text: str


def number(value: float) -> str:
    """Write a float so that PostgreSQL reads the same float."""
    return f"'{value!r}'::float8" if value == value and abs(value) != float("inf") else f"'{_special(value)}'::float8"


def single(value: float) -> str:
    """Write a float32 so that PostgreSQL reads the same one."""
    return f"'{np.float32(value)!s}'::float4"


def _special(value: float) -> str:
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def quoted(text: str, type_: str = "text") -> str:
    """Write a literal; text holds no backslash (`registry` refuses those)."""
    return "'" + text.replace("'", "''") + "'::" + type_


class Renderer:
    """Writes programs for one spelling of the inputs.

    array: features come as one array f, from f[1]; else as arguments c1, c2, …
    walk: trees with more nodes than this are walked over arrays; the others become CASE.
    """

    def __init__(self, *, array: bool, walk: int) -> None:
        self._array = array
        self._walk = walk
        self._declared: dict[str, str] = {}
        self._inlined: dict[int, str] = {}

    def body(self, program: Program, n_inputs: int) -> Body:
        """Write a program; an array is checked for its length first."""
        result = program.result
        if not self._array:
            flat = self._flat(program)
            if flat is not None:
                return Body("sql", flat)
        self._declared = {}
        self._inlined = {}
        lines = []
        if self._array:
            lines.append(f"if array_length(f, 1) <> {n_inputs} or array_lower(f, 1) <> 1 then return null; end if;")
        for step in program.steps:
            lines += self._step(step)
        if isinstance(result, list):
            lines.append(f"return array[{', '.join(map(self.expr, result))}]::float8[];")
        else:
            lines.append(f"return {self.expr(result)};")
        declared = "".join(f"{name} {type_}; " for name, type_ in self._declared.items())
        return Body("plpgsql", f"declare {declared}\nbegin\n" + "\n".join(lines) + "\nend" if declared
                    else "begin\n" + "\n".join(lines) + "\nend")  # fmt: skip

    def expr(self, expr: Expr) -> str:
        """Write an expression, in parentheses where it needs them."""
        match expr:
            case Input(position):
                return f"f[{position + 1}]" if self._array else f"c{position + 1}"
            case Var(n):
                return self._inlined.get(n) or f"v{n}"
            case Const(value):
                return _constant(value)
            case Binary(operator, left, right):
                return f"({self.expr(left)} {operator} {self.expr(right)})"
            case Sum(terms):
                return self._sum([self.expr(term) for term in terms])
            case Call(function, arguments):
                return f"{function}({', '.join(map(self.expr, arguments))})"
            case Case(branches, otherwise):
                parts = "".join(f" when {self.expr(when)} then {self.expr(then)}" for when, then in branches)
                return f"case{parts}{'' if otherwise is None else ' else ' + self.expr(otherwise)} end"
            case Missing(value):
                text = self.expr(value)
                return f"({text} is null or {text} = {NAN})" if value.kind == "float" else f"({text} is null)"
            case Cast(value, kind):
                return f"({self.expr(value)})::{_TYPES[kind]}"
            case Finite(value):
                return f"({self.expr(value)} * '0'::float8 = '0'::float8)"
            case _:
                raise TypeError(type(expr).__name__)

    def _flat(self, program: Program) -> str | None:
        """Write a program as one expression, which the planner can inline; None where a value would be computed twice.

        A column is read in an expression of the query faster than as a variable of PL/pgSQL, by several times.
        """
        if isinstance(program.result, list) or program.forest_nodes > FLAT_NODES:
            return None
        uses = Counter(number for expr in program.expressions() for number in vars_in(expr))
        if any(count > 1 for count in uses.values()):
            return None
        self._inlined = {}
        conditions = []
        for step in program.steps:
            match step:
                case Let(var, expr):
                    self._inlined[var.number] = self.expr(expr)
                case Guard(condition):
                    if any(vars_in(condition)):
                        return None
                    conditions.append(self.expr(condition))
                case Forest():
                    plain = all(isinstance(expr, Input) for expr in step.inputs)
                    if not plain or len(step.outputs) > 1 or step.nodes > self._walk:
                        return None
                    self._inlined[step.outputs[0].number] = self._total(step)
        text = self.expr(program.result)
        return f"case when {' and '.join(conditions)} then {text} end" if conditions else text

    def _sum(self, terms: Sequence[str]) -> str:
        while len(terms) > SUM_WIDTH:
            terms = [f"({' + '.join(terms[i : i + SUM_WIDTH])})" for i in range(0, len(terms), SUM_WIDTH)]
        return f"({' + '.join(terms)})"

    def _step(self, step: Let | Guard | Forest) -> list[str]:
        match step:
            case Let(var, expr):
                self._declare(var)
                return [f"v{var.number} := {self.expr(expr)};"]
            case Guard(condition):
                return [f"if {self.expr(condition)} is not true then return null; end if;"]
            case Forest():
                for var in step.outputs:
                    self._declare(var)
                if step.nodes > self._walk and not any(tree.categories for tree in step.trees):
                    return self._walker(step)
                return self._cases(step)

    def _declare(self, var: Var) -> None:
        self._declared[f"v{var.number}"] = _TYPES[var.kind]

    # --- trees --------------------------------------------------------------------------------------------------------

    def _cases(self, forest: Forest) -> list[str]:
        """Write each tree as a nested CASE."""
        if len(forest.outputs) == 1:
            name = f"v{forest.outputs[0].number}"
            if forest.starts is None:
                return [f"{name} := {self._total(forest)};"]
            # From the left, in the order of the model: float32 rounds at each term.
            terms = self._terms(forest)
            parts = [terms[i : i + SUM_WIDTH] for i in range(0, len(terms), SUM_WIDTH)] or [[]]
            return [
                f"{name} := {' + '.join([single(forest.starts[0]) if k == 0 else name, *part])};" for k, part in enumerate(parts)
            ]
        assert forest.starts is None
        inputs = [self.expr(expr) for expr in forest.inputs]
        # Several values a leaf: find the leaf once, then take its values from an array.
        self._declared["n"] = "int"
        lines = [f"v{var.number} := '0'::float8;" for var in forest.outputs]
        for tree in forest.trees:
            leaves = np.flatnonzero(tree.left < 0)
            names = [""] * len(tree.left)
            for position, leaf in enumerate(leaves):
                names[leaf] = str(position + 1)
            lines.append(f"n := {_case(tree, inputs, names, forest.allow_missing)};")
            for k, var in enumerate(forest.outputs):
                lines.append(f"v{var.number} := v{var.number} + ({_floats(tree.value[leaves, k])})[n];")
        return lines

    def _total(self, forest: Forest) -> str:
        """Write the sum of what trees of one output answer."""
        if forest.starts is None:
            return self._sum(self._terms(forest))
        return f"({' + '.join([single(forest.starts[0]), *self._terms(forest)])})"

    def _terms(self, forest: Forest) -> list[str]:
        inputs = [self.expr(expr) for expr in forest.inputs]
        write = number if forest.starts is None else single
        return [
            _case(tree, inputs, [write(float(value)) for value in tree.value[:, 0]], forest.allow_missing)
            for tree in forest.trees
        ]

    def _walker(self, forest: Forest) -> list[str]:
        """Walk over arrays: a body of bounded size, whose every step costs the same however large the trees are (`blocks`)."""
        blocks = cut(forest.trees)
        self._declared |= {"b": "varbit", "n": "int", "t": "int"}
        starts = [number(0.0)] * len(forest.outputs) if forest.starts is None else [single(start) for start in forest.starts]
        lines = [
            f"b := {' || '.join(self._at_most(forest, limits) for limits in blocks.limits) or quoted('0', 'varbit')};",
            *(f"v{var.number} := {start};" for var, start in zip(forest.outputs, starts, strict=True)),
            f"for t in 1..{len(forest.trees)} loop",
            "n := t;",
            "while n > 0 loop",
            f"n := {_descent(blocks)};",
            "end loop;",
        ]
        for k, var in enumerate(forest.outputs):
            values = blocks.value[:, k]
            floats = _floats(values) if forest.starts is None else _floats(values.astype(np.float32), "float4")
            lines.append(f"v{var.number} := v{var.number} + ({floats})[-n];")
        return [*lines, "end loop;"]

    def _at_most(self, forest: Forest, limits: Limits) -> str:
        """Write the bits that say of each threshold, in ascending order, whether the feature is at most that."""
        x, n = self.expr(forest.inputs[limits.feature]), len(limits.thresholds)
        # The buckets begin at what is just above a threshold; above infinity is NaN.
        above = np.where(limits.thresholds == np.inf, np.nan, np.nextafter(limits.thresholds, np.inf))
        smaller = f"width_bucket({x}, {_floats(above)})"
        if forest.allow_missing:
            smaller = f"case when {x} < {NAN} then {smaller} else {0 if limits.missing_left else n} end"
        return f"substring({quoted('0' * n + '1' * n, 'varbit')}, {n + 1} - {smaller}, {n})"


def _descent(blocks: Blocks, position: int = 0) -> str:
    """Write where block n leads from the node at a position."""
    width = blocks.bit.shape[1]
    if position >= width:
        return f"({_integers(blocks.child[:, position - width])})[n]"
    low, high = (_descent(blocks, 2 * position + side) for side in (1, 2))
    return f"case when get_bit(b, ({_integers(blocks.bit[:, position])})[n]) = 1 then {low} else {high} end"


def _case(tree: Tree, inputs: Sequence[str], leaves: Sequence[str], allow_missing: bool) -> str:
    """Write a tree as nested CASE, without recursion."""
    parts: list[str] = []
    stack: list[int | str] = [0]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            parts.append(node)
            continue
        if tree.left[node] < 0:
            parts.append(leaves[node])
            continue
        x, low, high = inputs[tree.feature[node]], int(tree.left[node]), int(tree.right[node])
        if node in tree.categories:
            parts.append(f"case when {_membership(x, tree.categories[node], bool(tree.missing_left[node]))} then ")
            stack += [" end", high, " else ", low]
        elif allow_missing and tree.missing_left[node]:
            # NULL is not greater, and NaN, which PostgreSQL puts above everything, is not smaller than itself.
            parts.append(f"case when {x} > {number(float(tree.threshold[node]))} and {x} < {NAN} then ")
            stack += [" end", low, " else ", high]
        else:
            parts.append(f"case when {x} <= {number(float(tree.threshold[node]))} then ")
            stack += [" end", high, " else ", low]
    return "".join(parts)


def _membership(x: str, choice: Choice, missing_left: bool) -> str:
    """Write whether a category goes left; a list is not true of NULL, and holds no NaN."""
    listed = choice.right if choice.other_left else choice.left
    there = f"{x} in ({', '.join(number(float(value)) for value in listed)})" if listed else "false"
    if choice.other_left:
        return f"(({there}) is not true)" if missing_left else f"(({there}) is not true and {x} < {NAN})"
    return f"({there} or {x} is null or {x} = {NAN})" if missing_left else f"({there})"


def _constant(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"'{value}'::bigint"
    return number(value) if isinstance(value, float) else quoted(value)


def _floats(values: Any, type_: str = "float8") -> str:
    texts = (repr(v) if v == v and abs(v) != float("inf") else _special(v) for v in map(float, values))
    return "'{" + ",".join(texts) + "}'::" + type_ + "[]"


def _integers(values: Iterable[int]) -> str:
    return "'{" + ",".join(map(str, values)) + "}'::int[]"

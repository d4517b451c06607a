"""Graphs: a program of `dbml.engines.sql` as an ONNX file, in float64 throughout.

What SQL knows as NULL is NaN here, and compares as NULL does: it is not less, not more, not equal.  Where SQL would answer
NULL, the output `answered` is false.  Trees keep the thresholds that SQL has, so that no feature is rounded to float32,
and become the operator TreeEnsemble of ai.onnx.ml 5, whose sums are float64 too; that of former versions is float32.
https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from dbml import errors
from dbml.engines.onnx import ANSWERED, KEY, MISSING_TEXT
from dbml.engines.sql.expressions import (
    Binary,
    Call,
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
    Program,
    Sum,
    Tree,
    Var,
)

OPSET, ML_OPSET, IR_VERSION = 19, 5, 10
_OPERATORS = {
    "-": "Sub", "*": "Mul", "/": "Div", "<": "Less", "<=": "LessOrEqual", ">": "Greater", ">=": "GreaterOrEqual", "=": "Equal",
    "and": "And", "or": "Or",
}  # fmt: skip
_FUNCTIONS = {"exp": "Exp", "ln": "Log", "sqrt": "Sqrt", "abs": "Abs", "tanh": "Tanh", "floor": "Floor", "greatest": "Max",
              "least": "Min", "power": "Pow"}  # fmt: skip
_LESS_OR_EQUAL, _MEMBER = 0, 6  # modes of TreeEnsemble

Known = tuple[str, str | None]  # a value's name, and that of the mask of rows that have one; None: all


def write(programs: dict[str, Program], kinds: Sequence[Kind], about: dict[str, Any]) -> bytes:
    """Write programs over the same inputs as one file.

    Raises: NotCompiled for what ONNX has no operator for.
    """
    from onnx import TensorProto, helper

    writer = _Writer(kinds)
    types = {"float": TensorProto.DOUBLE, "int": TensorProto.INT64, "bool": TensorProto.BOOL, "text": TensorProto.STRING}
    masks: list[str] = []
    outputs = []
    for method, program in programs.items():
        result, mask = writer.program(program)
        name = "prediction" if method == "predict" else "probabilities"
        several = isinstance(program.result, list)
        kind = "float" if isinstance(program.result, list) else program.result.kind
        writer.rename(result, name)
        width = len(program.result) if isinstance(program.result, list) else 1
        outputs.append(helper.make_tensor_value_info(name, types[kind], ["n", width] if several else ["n", 1]))
        masks += [mask] if mask else []
    if masks:
        joined = masks[0]
        for mask in masks[1:]:
            joined = writer.node("And", joined, mask)
    else:
        joined = writer.constant(True)
    writer.rename(joined, ANSWERED)
    outputs.append(helper.make_tensor_value_info(ANSWERED, TensorProto.BOOL, None))
    if writer.by_column:
        inputs = [
            helper.make_tensor_value_info(f"c{i}", types["text" if kind == "text" else "float"], ["n", 1])
            for i, kind in enumerate(kinds)
        ]
    else:
        inputs = [helper.make_tensor_value_info("X", TensorProto.DOUBLE, ["n", len(kinds)])]
    graph = helper.make_graph(writer.nodes, "model", inputs, outputs, writer.constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        ir_version=IR_VERSION, producer_name="dbml",
    )  # fmt: skip
    helper.set_model_props(model, {KEY: json.dumps(about)})
    return bytes(model.SerializeToString())


class _Writer:
    """Nodes and constants so far; every value is a tensor (n, 1), or (1, 1) where it is the same for all rows."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.by_column = "text" in kinds or len(kinds) == 1
        self._kinds = kinds
        self._names: dict[tuple[Any, ...], str] = {}
        self._vars: dict[int, Known] = {}
        self._count = 0
        if not self.by_column:
            from onnx import helper

            self._columns = [f"x{i}" for i in range(len(kinds))]
            self.nodes.append(helper.make_node("Split", ["X"], self._columns, axis=1, num_outputs=len(kinds)))

    def program(self, program: Program) -> Known:
        """Write a program; returns its result and which rows it answers."""
        self._vars = {}
        masks: list[str] = []
        for step in program.steps:
            match step:
                case Let(var, expr):
                    self._vars[var.number] = self.value(expr)
                case Guard(condition):
                    masks.append(self.true(condition))
                case Forest():
                    self._forest(step)
        if isinstance(program.result, list):
            parts = [self.value(expr) for expr in program.result]
            rows = self._like_rows([name for name, _ in parts])
            result = self.node("Concat", *rows, axis=1)
            masks += [mask for _, mask in parts if mask]
        else:
            result, mask = self.value(program.result)
            (result,) = self._like_rows([result])
            masks += [mask] if mask else []
        joined: str | None = None
        for each in masks:
            joined = each if joined is None else self.node("And", joined, each)
        return result, joined

    def rename(self, name: str, to: str) -> None:
        """Give a value the name of an output; an output is as long as the rows."""
        from onnx import helper

        rows = self._like_rows([name])[0]
        self.nodes.append(helper.make_node("Identity", [rows], [to]))

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node of one output and return its name."""
        from onnx import helper

        self._count += 1
        name = f"t{self._count}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], domain=domain, **attributes))
        return name

    def constant(self, value: Any) -> str:
        """Return the name of a constant (1, 1)."""
        from onnx import numpy_helper

        key = (type(value), repr(value))
        if key not in self._names:
            self._count += 1
            array = np.array([[value]], dtype=object if isinstance(value, str) else None)
            self.constants.append(numpy_helper.from_array(array, f"k{self._count}"))
            self._names[key] = f"k{self._count}"
        return self._names[key]

    def input(self, position: int) -> str:
        """Return the name of a feature's column."""
        return f"c{position}" if self.by_column else self._columns[position]

    def true(self, condition: Expr) -> str:
        """Write a condition, false where it is not known."""
        name, mask = self.value(condition)
        return name if mask is None else self.node("And", name, mask)

    def value(self, expr: Expr) -> Known:
        """Write an expression."""
        match expr:
            case Input(position):
                return self.input(position), None
            case Var(number):
                return self._vars[number]
            case Const(value):
                return self.constant(value), None
            case Binary(operator, left, right) if operator in ("and", "or"):
                return self.node(_OPERATORS[operator], self.true(left), self.true(right)), None
            case Binary(operator, left, right):
                return self._call(_OPERATORS[operator], [left, right])
            case Sum(terms):
                return self._call("Sum", terms)
            case Call(function, arguments) if function in _FUNCTIONS:
                return self._call(_FUNCTIONS[function], arguments)
            case Case(branches, otherwise):
                return self._case(branches, otherwise)
            case Missing(value):
                name, mask = self.value(value)
                found = (
                    self.node("Equal", name, self.constant(MISSING_TEXT)) if value.kind == "text" else self.node("IsNaN", name)
                )
                return (found if mask is None else self.node("Or", found, self.node("Not", mask))), None
            case Finite(value):
                name, mask = self.value(value)
                zero = self.constant(0.0)
                found = self.node("Equal", self.node("Mul", name, zero), zero)
                return (found if mask is None else self.node("And", found, mask)), None
            case Cast():
                raise errors.NotCompiled("ONNX Runtime's order of a sum in float32 is not the model's")
            case _:
                raise errors.NotCompiled(f"ONNX has no operator for {type(expr).__name__}")

    def _call(self, operator: str, arguments: Sequence[Expr]) -> Known:
        found = [self.value(argument) for argument in arguments]
        masks = [mask for _, mask in found if mask]
        joined = masks[0] if masks else None
        for mask in masks[1:]:
            assert joined is not None
            joined = self.node("And", joined, mask)
        return self.node(operator, *(name for name, _ in found)), joined

    def _case(self, branches: Sequence[tuple[Expr, Expr]], otherwise: Expr | None) -> Known:
        last: Known = self.value(otherwise) if otherwise is not None else (self._any(branches[0][1].kind), self.constant(False))
        value, mask = last
        for condition, then in reversed(branches):
            when = self.true(condition)
            chosen, its_mask = self.value(then)
            is_bool = then.kind == "bool"
            value = self._either(when, chosen, value) if is_bool else self.node("Where", when, chosen, value)
            if its_mask is not None or mask is not None:
                mask = self._either(when, its_mask or self.constant(True), mask or self.constant(True))
        return value, mask

    def _either(self, when: str, yes: str, no: str) -> str:
        """Choose between conditions, for which ONNX Runtime has no Where."""
        return self.node("Or", self.node("And", when, yes), self.node("And", self.node("Not", when), no))

    def _any(self, kind: Kind) -> str:
        return self.constant({"float": 0.0, "int": 0, "bool": False, "text": ""}[kind])

    def _like_rows(self, names: Sequence[str]) -> list[str]:
        """Return values as long as there are rows."""
        shape = self._names.get(("shape",))
        if shape is None:
            shape = self._names[("shape",)] = self.node("Shape", self.input(0))
        return [self.node("Expand", name, shape) for name in names]

    def _forest(self, forest: Forest) -> None:
        if forest.starts is not None:
            raise errors.NotCompiled("ONNX Runtime's order of a sum in float32 is not the model's")
        used = sorted({int(f) for tree in forest.trees for f in np.unique(tree.feature[tree.inner])})
        columns = []
        for feature in used or [0]:
            name, mask = self.value(forest.inputs[feature])
            if mask is not None:
                raise errors.NotCompiled("a tree over a column that may have no value")
            columns.append(name)
        rows = self._like_rows(columns)
        matrix = rows[0] if len(rows) == 1 else self.node("Concat", *rows, axis=1)
        outputs = len(forest.outputs)
        whole = self.node(
            "TreeEnsemble", matrix, domain="ai.onnx.ml", **_trees(forest.trees, {f: i for i, f in enumerate(used)}, outputs)
        )
        if outputs == 1:
            self._vars[forest.outputs[0].number] = whole, None
            return
        for k, var in enumerate(forest.outputs):
            self._vars[var.number] = self.node("Gather", whole, self._index(k), axis=1), None

    def _index(self, k: int) -> str:
        from onnx import numpy_helper

        key = ("index", k)
        if key not in self._names:
            self._names[key] = f"i{k}"
            self.constants.append(numpy_helper.from_array(np.array([k], dtype=np.int64), f"i{k}"))
        return self._names[key]


def _trees(trees: Sequence[Tree], renumbered: dict[int, int], outputs: int) -> dict[str, Any]:
    """Return the attributes of TreeEnsemble; a leaf of several outputs becomes a chain of leaves that all are reached.

    There is one weight a leaf, so that a tree of k outputs is written k times.
    """
    from onnx import numpy_helper

    feature: list[int] = []
    split: list[float] = []
    true_id: list[int] = []
    false_id: list[int] = []
    true_leaf: list[int] = []
    false_leaf: list[int] = []
    missing: list[int] = []
    roots: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    for tree in trees:
        if tree.categories:
            raise errors.NotCompiled("trees that split by category")
        for k in range(outputs):
            inner = [int(node) for node in tree.inner]
            base = len(feature)
            place = {node: base + i for i, node in enumerate(inner)}
            roots.append(base)
            if not inner:  # a tree of one leaf: whatever comes, it is reached
                targets += [k]
                weights += [float(tree.value[0, k])]
                feature.append(0)
                split.append(0.0)
                true_id.append(len(weights) - 1)
                false_id.append(len(weights) - 1)
                true_leaf.append(1)
                false_leaf.append(1)
                missing.append(0)
                continue
            for node in inner:
                feature.append(renumbered[int(tree.feature[node])])
                split.append(float(tree.threshold[node]))
                missing.append(int(tree.missing_left[node]))
                for child, ids, leaf in (
                    (int(tree.left[node]), true_id, true_leaf),
                    (int(tree.right[node]), false_id, false_leaf),
                ):
                    if tree.left[child] < 0:
                        weights.append(float(tree.value[child, k]))
                        targets.append(k)
                        ids.append(len(weights) - 1)
                        leaf.append(1)
                    else:
                        ids.append(place[child])
                        leaf.append(0)
    return {
        "nodes_featureids": feature, "nodes_splits": numpy_helper.from_array(np.array(split), "splits"),
        "nodes_modes": numpy_helper.from_array(np.full(len(split), _LESS_OR_EQUAL, dtype=np.uint8), "modes"),
        "nodes_truenodeids": true_id, "nodes_falsenodeids": false_id, "nodes_trueleafs": true_leaf,
        "nodes_falseleafs": false_leaf,
        "nodes_missing_value_tracks_true": missing, "tree_roots": roots, "leaf_targetids": targets,
        "leaf_weights": numpy_helper.from_array(np.array(weights), "weights"), "n_targets": outputs, "post_transform": 0,
        "aggregate_function": 1,
    }  # fmt: skip

"""ONNX files: a graph of known operators over tensors; nothing in it is imported or run by being read.

`types_of` reads the file's own protocol buffers, without a package for it: what the graph asks for is told by domain and
operator.  Trusted are ONNX's own operators and those of ONNX Runtime; a file that refers to other files is not.
Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from dbml import errors
from dbml.formats.verdicts import TRUSTED, UNTRUSTED

TRUSTED_DOMAINS = frozenset({"ai.onnx", "ai.onnx.ml", "com.microsoft"})
MOST_OPERATORS = 10_000  # different ones
DEEPEST = 50  # graphs in graphs
_EXTERNAL = 1  # TensorProto.DataLocation


def types_of(content: bytes) -> list[dict[str, Any]]:
    """Return a row for each operator of a file: its domain as module, its name, how often it is there, and whether it is trusted.

    Raises: ModelLoadError where the bytes are no ONNX file.
    """
    counts: Counter[tuple[str, str]] = Counter()
    external = False
    found_graph = False
    try:
        view = memoryview(content)
        waiting: list[tuple[str, memoryview, int]] = [("model", view, 0)]
        while waiting:
            kind, part, depth = waiting.pop()
            if depth > DEEPEST:
                raise ValueError("graphs are nested too deep")
            if kind == "node":
                fields = list(_fields(part))
                name = next((str(value, "utf-8") for number, value in fields if number == 4), "")
                domain = next((str(value, "utf-8") for number, value in fields if number == 7), "") or "ai.onnx"
                counts[domain, name] += 1
                waiting += [("attribute", value, depth) for number, value in fields if number == 5]
            elif kind == "tensor":
                external |= any(number == 13 or (number == 14 and value == _EXTERNAL) for number, value in _fields(part))
            else:
                inner = _INNER[kind]
                for number, value in _fields(part):
                    if number in inner:
                        found_graph |= inner[number] == "graph"
                        waiting.append((inner[number], value, depth + (kind == "attribute")))
    except (ValueError, IndexError, TypeError) as error:
        raise errors.ModelLoadError(f"the bytes are no ONNX file: {error}") from None
    if not found_graph:
        raise errors.ModelLoadError("the bytes are no ONNX file: there is no graph in them")
    rows = [
        {"module": domain, "name": name, "calls": count, "note": None,
         "verdict": TRUSTED if domain in TRUSTED_DOMAINS else UNTRUSTED}
        for (domain, name), count in sorted(counts.items())[:MOST_OPERATORS]
    ]  # fmt: skip
    if external:
        rows.append({"module": "onnx", "name": "external_data", "calls": 1, "verdict": UNTRUSTED, "note": None})
    return rows


# Which fields of a message hold which messages that are of interest.
_INNER: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}


def _fields(part: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield the fields of a message: bytes as views, whole numbers as such."""
    at = 0
    while at < len(part):
        key, at = _varint(part, at)
        match key & 7:
            case 0:
                value, at = _varint(part, at)
                yield key >> 3, value
            case 1:
                at += 8
            case 2:
                size, at = _varint(part, at)
                if at + size > len(part):
                    raise ValueError("a field goes beyond the end")
                yield key >> 3, part[at : at + size]
                at += size
            case 5:
                at += 4
            case _:
                raise ValueError("a field of no known type")


def _varint(part: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = part[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def session(content: bytes) -> Any:
    """Return an InferenceSession of ONNX Runtime, of one thread: several would spin while they wait for rows.

    Raises: ModelRefused where it asks for what is not trusted; ModelLoadError.
    """
    try:
        import onnxruntime
    except ImportError:
        raise errors.ModelLoadError(
            "a model of format onnx needs the package onnxruntime, which is not in this environment",
            hint="pip install 'dbml[onnx]' where the worker runs; in an environment of its own, add onnxruntime to it",
        ) from None
    untrusted = [f"{row['module']}.{row['name']}" for row in types_of(content) if row["verdict"] == UNTRUSTED]
    if untrusted:
        raise errors.ModelRefused(f"the model asks for what is not ONNX's own: {', '.join(untrusted[:10])}")
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has classes of its own for each thing that may be wrong
        raise errors.ModelLoadError(f"the ONNX file does not load: {str(error)[:500]}") from None

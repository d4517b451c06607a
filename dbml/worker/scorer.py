"""The scorer: a process that keeps loaded models and scores rows with them.

Models are kept by the SHA-256 of their bytes, the least recently used one goes when the cache is full.  It is here,
behind the sandbox, and nowhere else, that predictions make models of bytes.
"""

from __future__ import annotations

import hashlib
import json
import socket
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dbml import columns, errors
from dbml.engines.contract import Engine
from dbml.engines.onnx import OnnxEngine, PairedEngine
from dbml.engines.python import PythonEngine, type_of_kind, value_kind
from dbml.features import feature_names, feature_places, signature_features
from dbml.formats import PAIRED, onnx, unpair
from dbml.formats.load import load
from dbml.formats.policy import Policy
from dbml.worker.compiling import compiled_answer
from dbml.worker.converting import converted_answer
from dbml.worker.frames import Frame, pack, read_frame
from dbml.worker.sandbox import Limits, use_reserve
from dbml.worker.script import sendable

_NUMERIC = frozenset({"bool", "int2", "int4", "int8", "float4", "float8", "numeric"})
_FLOATS = frozenset({"float4", "float8"})
_PLAIN = frozenset({"bool", "int8", "float8", "text"})  # what columns.encode_array takes
_JSON_FLOATS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class Scorer:
    """Answers the router's requests, one at a time, until the router closes."""

    def __init__(self, sock: socket.socket, limits: Limits) -> None:
        self._sock = sock
        self._limits = limits
        self._models: OrderedDict[tuple[str, str], tuple[Engine, int]] = OrderedDict()
        self._held_bytes = 0

    def run(self) -> None:
        """Answer until the socket closes, which raises EOFError."""
        while True:
            head, body = read_frame(self._sock)
            self._sock.sendall(pack(*self.answer(head, body)))

    def answer(self, head: Mapping[str, Any], body: bytes) -> Frame:
        """Answer one request; whatever goes wrong with it is an answer too."""
        try:
            return self._answer(head, body)
        except errors.DbmlError as error:
            failure = error
        except MemoryError:
            use_reserve()
            self._forget_all()
            failure = errors.LimitExceeded(
                f"the model needs more memory than memory_mb = {self._limits.memory_mb} allows a scorer",
                detail={"limit": "memory_mb", "value": self._limits.memory_mb},
            )
        except (EOFError, ConnectionError):
            raise
        except Exception as error:  # the edge where a request ends
            failure = errors.PredictionError(f"{type(error).__name__}: {error}", detail={"type": type(error).__qualname__})
        return {"tag": "error", **sendable(failure)}, b""

    def _answer(self, head: Mapping[str, Any], body: bytes) -> Frame:
        digest = head["digest"]
        if head["tag"] == "load":
            return self._load(digest, head.get("format", "pickle"), Policy.of(head.get("policy"))), b""
        found = self._models.get((digest, head.get("format", "pickle")))
        if found is None:
            return {"tag": "need", "digest": digest}, b""
        self._models.move_to_end((digest, head.get("format", "pickle")))
        engine = found[0]
        match head["tag"]:
            case "score_row":
                return _score_row(engine, head, body)
            case "score":
                return _score(engine, head, body)
            case "score_record":
                return _score_record(engine, head, body)
            case "describe":
                return about(engine), b""
            case "compile" | "convert" as tag:
                if not isinstance(engine, PythonEngine):
                    raise errors.NotCompiled("there is no estimator behind an ONNX file")
                return compiled_answer(engine, head) if tag == "compile" else converted_answer(engine, head)
            case tag:
                raise errors.ProtocolMismatch(f"a scorer does not know {tag!r}")

    def _load(self, digest: str, format: str, policy: Policy) -> dict[str, Any]:  # noqa: A002 - the column's name
        """Take a model's bytes, part by part, and make the model of them once their digest is right."""
        parts = []
        while True:
            head, body = read_frame(self._sock)
            if head["tag"] == "end":
                break
            parts.append(body)
        content = b"".join(parts)
        del parts
        if hashlib.sha256(content).hexdigest() != digest:
            raise errors.ModelLoadError("the model's bytes do not match their digest", detail={"digest": digest})
        try:
            engine = _engine(content, format, policy)
        except (MemoryError, errors.ModelError):
            raise
        except BaseException as error:  # a pickle may raise anything
            raise errors.ModelLoadError(
                f"the model does not load: {type(error).__name__}: {error}",
                detail={"type": type(error).__qualname__, "digest": digest},
                hint="it must be made with the packages of the environment that it was registered under; "
                "dbml.inspect_model(model) says what is in it",
            ) from None
        told = about(engine)
        self._keep((digest, format), engine, len(content))
        return told

    def _keep(self, key: tuple[str, str], engine: Engine, size: int) -> None:
        _, former = self._models.pop(key, (None, 0))
        self._models[key] = (engine, size)
        self._held_bytes += size - former
        while self._held_bytes > self._limits.cache_mb << 20 and len(self._models) > 1:
            _, (_, gone) = self._models.popitem(last=False)
            self._held_bytes -= gone

    def _forget_all(self) -> None:
        self._models.clear()
        self._held_bytes = 0


def serve(sock: socket.socket, limits: Limits) -> None:
    """Serve the router until it closes."""
    warnings.simplefilter("ignore")  # nobody would read them
    try:
        Scorer(sock, limits).run()
    except (EOFError, ConnectionError):
        return


def _engine(content: bytes, format: str, policy: Policy) -> Engine:  # noqa: A002 - the column's name
    """Make the engine of a model's bytes: of an ONNX file, of an estimator, or of an estimator and its ONNX form."""
    if format == "onnx":
        return OnnxEngine(onnx.session(content))
    if format.startswith(PAIRED):
        behind, graph = unpair(content)
        python = _engine(behind, format.removeprefix(PAIRED), policy)
        assert isinstance(python, PythonEngine)
        return PairedEngine(python, OnnxEngine(onnx.session(graph)))
    estimator = load(content, format, policy)
    if not callable(getattr(estimator, "predict", None)):
        raise errors.ModelLoadError(f"the model is a {type(estimator).__name__}, which has no predict")
    return PythonEngine(estimator)


def about(engine: Engine) -> dict[str, Any]:
    """Return what the router is told of a loaded model."""
    return {
        "tag": "loaded", "features": engine.features, "n_features": engine.n_features, "has_proba": engine.has_proba,
        "prediction": {"type": engine.type, "kind": engine.kind},
        "classes": None if engine.classes is None else [_json(label) for label in engine.classes],
    }  # fmt: skip


def read_float_array(content: bytes) -> npt.NDArray[np.float64]:
    """Read array_send() of a one-dimensional float8[]; NULL becomes NaN.

    Raises: ProtocolMismatch.
    Source: PostgreSQL src/backend/utils/adt/arrayfuncs.c, array_send.
    """
    try:
        dimensions = int.from_bytes(content[:4])
        if dimensions == 0 and len(content) == 12:
            return np.empty(0)
        count = int.from_bytes(content[12:16])
        if dimensions != 1:
            raise ValueError
        if len(content) == 20 + 12 * count:
            return np.frombuffer(content, dtype=_ELEMENT, offset=20)["value"].astype(np.float64)
        values = np.full(count, np.nan)
        at = 20
        for i in range(count):
            if content[at] == 0:  # a length of 8; that of a NULL is -1
                values[i] = np.frombuffer(content, dtype=">f8", count=1, offset=at + 4)[0]
                at += 8
            at += 4
    except (ValueError, IndexError):
        raise errors.ProtocolMismatch("the features must be a one-dimensional array of float8") from None
    return values


_ELEMENT = np.dtype([("size", ">i4"), ("value", ">f8")])


def _score_row(engine: Engine, head: Mapping[str, Any], body: bytes) -> Frame:
    features = read_float_array(bytes.fromhex(body.decode("ascii")))
    scores = engine.score(head["method"], features.reshape(1, -1))
    kind = value_kind(scores)
    return {"tag": "scores", "n": 1, "type": type_of_kind(kind)}, _text(scores[0]).encode()


def _score_record(engine: Engine, head: Mapping[str, Any], body: bytes) -> Frame:
    record = json.loads(body)
    names = feature_names(engine.features, signature_features(head.get("signature"))) or list(record)
    places = feature_places(names, list(record))
    missing = [name for name, place in zip(names, places, strict=True) if place is None]
    if missing:
        raise errors.MissingFeature(
            f"the row lacks {'column' if len(missing) == 1 else 'columns'} "
            + ", ".join(f'"{name}"' for name in missing) + " that the model needs",
            detail={"missing": missing, "columns": list(record)},
            hint="the model's features: " + ", ".join(f'"{name}"' for name in names),
        )  # fmt: skip
    given = list(record.values())
    cells = [_number(given[place]) for place in places if place is not None]
    rows: Any = None
    if not engine.needs_names:
        rows = _as_row(cells)
    if rows is None:
        rows = pd.DataFrame({name: [cell] for name, cell in zip(names, cells, strict=True)})
    scores = engine.score(head["method"], rows)
    text = json.dumps(_json(scores[0]), ensure_ascii=False)
    return {"tag": "scores", "n": 1, "type": type_of_kind(value_kind(scores))}, text.encode()


def _score(engine: Engine, head: Mapping[str, Any], body: bytes) -> Frame:
    if head["n"] == 0:  # which scikit-learn refuses
        return {"tag": "scores", "n": 0}, b"{}"
    scores = engine.score(head["method"], _rows(engine, head, body))
    kind = value_kind(scores)
    expected = head["expected"] or {"name": "prediction", "type": type_of_kind(kind), "kind": kind}
    answer = {"tag": "scores", "n": len(scores)}
    if kind in _PLAIN and (expected["kind"] == kind or (kind == "float8" and expected["kind"] in _FLOATS)):
        return answer, columns.encode_array(scores, kind)
    column = pd.Series(list(scores) if scores.ndim > 1 else scores)
    wanted = [columns.Column(expected["name"], expected["type"], expected["kind"])]
    (chunk,) = columns.encode_frame(pd.DataFrame({expected["name"]: column}), wanted, len(scores))
    return answer, chunk.literals[0]


def _rows(engine: Engine, head: Mapping[str, Any], body: bytes) -> Any:
    """Return a chunk's rows as the engine takes them."""
    sent = [columns.Column(column["name"], column["type"], column["kind"]) for column in head["columns"]]
    exact = {"float8"} if engine.needs_names else _NUMERIC  # by name, a step may tell an integer from a float
    if all(column.kind in exact for column in sent) and not (engine.needs_names and engine.features is None):
        return columns.decode_matrix(body, sent, head["n"])
    builder = columns.FrameBuilder(sent)
    builder.append(body, head["n"])
    frame = builder.frame()
    if not engine.needs_names:
        try:
            return frame.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError):
            pass  # text or objects: the estimator says what it makes of them
    return frame


def _as_row(cells: list[Any]) -> npt.NDArray[np.float64] | None:
    try:
        return np.array([cells], dtype=np.float64)
    except (TypeError, ValueError):
        return None


def _number(value: Any) -> Any:
    """Read a JSON value of a record: to_jsonb writes the floats that JSON lacks as text."""
    if value is None:
        return np.nan
    return _JSON_FLOATS.get(value, value) if isinstance(value, str) else value


def _text(value: Any) -> str:
    """Return one prediction as PostgreSQL's input functions take it."""
    if isinstance(value, np.ndarray):
        kind = value_kind(value)
        return columns.encode_array(value, kind).decode()
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, float):
        return str(_json(plain)) if plain != plain or plain in (float("inf"), float("-inf")) else repr(plain)
    if isinstance(plain, bool):
        return "true" if plain else "false"
    return str(plain)


def _json(value: Any) -> Any:
    """Return one prediction as to_jsonb would print it."""
    if isinstance(value, np.ndarray):
        return [_json(cell) for cell in value]
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, float) and not np.isfinite(plain):
        return "NaN" if plain != plain else "Infinity" if plain > 0 else "-Infinity"
    return plain if isinstance(plain, str | int | float | bool | None) else str(plain)

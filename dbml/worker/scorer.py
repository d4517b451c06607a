"""The scorer: a process that keeps loaded models and scores rows with them.

Models are kept by the SHA-256 of their bytes, the least recently used one goes when the cache is full.  It is here,
behind the sandbox, and nowhere else, that predictions unpickle anything.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import socket
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from dbml import columns, errors
from dbml.engines.python import PythonEngine, value_kind
from dbml.worker.frames import Frame, pack, read_frame
from dbml.worker.sandbox import Limits

_NUMERIC = frozenset({"bool", "int2", "int4", "int8", "float4", "float8", "numeric"})
_NAMES = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_TYPES = {"float8": "double precision", "int8": "bigint", "bool": "boolean", "text": "text", "array:float8": "double precision[]"}


class Scorer:
    """Answers the router's requests, one at a time."""

    def __init__(self, sock: socket.socket, limits: Limits) -> None:
        self._sock = sock
        self._cache_bytes = limits.cache_mb << 20
        self._models: OrderedDict[str, tuple[PythonEngine, int]] = OrderedDict()
        self._held = 0

    def run(self) -> None:
        """Serve until the router closes."""
        while True:
            head, body = read_frame(self._sock)
            try:
                answer, scores = self._answer(head, body)
            except errors.DbmlError as error:
                answer, scores = {"tag": "error", **error.fields()}, b""
            except MemoryError:
                answer, scores = (
                    {"tag": "error", "sqlstate": "ML005", "message": "the scorer needs more memory than memory_mb allows"},
                    b"",
                )
            self._sock.sendall(pack(answer, scores))

    def _answer(self, head: Mapping[str, Any], body: bytes) -> Frame:
        digest = head["digest"]
        if head["tag"] == "load":
            return self._load(digest), b""
        engine = self._find(digest)
        if engine is None:
            return {"tag": "need", "digest": digest}, b""
        match head["tag"]:
            case "describe":
                return about(engine), b""
            case "score_row":
                return self._score_row(engine, head, body)
            case "score_record":
                return self._score_record(engine, head, body)
            case "score":
                return self._score(engine, head, body)
            case tag:
                raise errors.ProtocolMismatch(f"a scorer does not know {tag!r}")

    def _find(self, digest: str) -> PythonEngine | None:
        found = self._models.get(digest)
        if found is None:
            return None
        self._models.move_to_end(digest)
        return found[0]

    def _load(self, digest: str) -> dict[str, Any]:
        """Take a model's bytes, part by part, and unpickle them once their digest is right."""
        parts = []
        while True:
            head, body = read_frame(self._sock)
            if head["tag"] == "end":
                break
            parts.append(body)
        content = b"".join(parts)
        if hashlib.sha256(content).hexdigest() != digest:
            raise errors.ModelLoadError("the model's bytes do not match their digest", detail={"digest": digest})
        try:
            estimator = pickle.loads(content)
        except Exception as error:
            raise errors.ModelLoadError(
                f"the model does not load: {type(error).__name__}: {error}",
                detail={"type": type(error).__qualname__},
                hint="it must be a pickle made with the packages that this worker has",
            ) from None
        if not callable(getattr(estimator, "predict", None)):
            raise errors.ModelLoadError(f"the model is a {type(estimator).__name__}, which has no predict")
        engine = PythonEngine(estimator)
        self._models[digest] = (engine, len(content))
        self._held += len(content)
        while self._held > self._cache_bytes and len(self._models) > 1:
            _, (_, size) = self._models.popitem(last=False)
            self._held -= size
        return about(engine)

    def _score_row(self, engine: PythonEngine, head: Mapping[str, Any], body: bytes) -> Frame:
        features = read_float_array(bytes.fromhex(body.decode("ascii")))
        scores = engine.score(head["method"], features.reshape(1, -1))
        kind = value_kind(scores)
        return {"tag": "scores", "type": _TYPES[kind]}, _text(scores[0]).encode()

    def _score_record(self, engine: PythonEngine, head: Mapping[str, Any], body: bytes) -> Frame:
        record = json.loads(body)
        signature = head.get("signature") or {}
        names = engine.features or [feature["name"] for feature in signature.get("features") or []] or list(record)
        missing = [name for name in names if name not in record]
        if missing:
            raise errors.MissingFeature(
                "the row lacks " + ", ".join(f'"{name}"' for name in missing) + " that the model needs",
                detail={"missing": missing, "columns": list(record)},
                hint="the model's features: " + ", ".join(f'"{name}"' for name in names),
            )
        frame = pd.DataFrame({name: [_number(record[name])] for name in names})
        rows: Any = frame if engine.needs_names else _as_numbers(frame)
        scores = engine.score(head["method"], rows)
        return {"tag": "scores", "type": _TYPES[value_kind(scores)]}, json.dumps(_json(scores[0])).encode()

    def _score(self, engine: PythonEngine, head: Mapping[str, Any], body: bytes) -> Frame:
        sent = [columns.Column(c["name"], c["type"], c["kind"]) for c in head["columns"]]
        rows: Any
        if all(column.kind in _NUMERIC for column in sent):
            rows = columns.decode_matrix(body, sent, head["n"])
        else:
            builder = columns.FrameBuilder(sent)
            builder.append(body, head["n"])
            rows = builder.frame()
            if not engine.needs_names:
                rows = _as_numbers(rows)
        scores = engine.score(head["method"], rows)
        kind = value_kind(scores)
        expected = head["expected"]
        if kind == expected["kind"] and kind != "array:float8":
            return {"tag": "scores", "n": len(scores)}, columns.encode_array(scores, kind)
        series: Any = pd.Series(list(scores) if scores.ndim > 1 else scores)
        if expected["kind"] in ("float4", "float8") and kind == "float8":
            return {"tag": "scores", "n": len(scores)}, columns.encode_array(scores, "float8")
        wanted = [columns.Column(expected["name"], expected["type"], expected["kind"])]
        (chunk,) = columns.encode_frame(pd.DataFrame({expected["name"]: series}), wanted, max(1, len(scores)))
        return {"tag": "scores", "n": len(scores)}, chunk.literals[0]


def serve(sock: socket.socket, limits: Limits) -> None:
    """Serve the router until it closes."""
    try:
        Scorer(sock, limits).run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def about(engine: PythonEngine) -> dict[str, Any]:
    """Return what the router is told of a loaded model."""
    return {
        "tag": "loaded", "features": engine.features, "n_features": engine.n_features, "has_proba": engine.has_proba,
        "prediction": {"type": engine.type, "kind": engine.kind},
    }  # fmt: skip


def read_float_array(content: bytes) -> np.ndarray[Any, Any]:
    """Read array_send() of a one-dimensional float8[]; NULL becomes NaN.

    Source: PostgreSQL src/backend/utils/adt/arrayfuncs.c, array_send.
    """
    if int.from_bytes(content[:4]) == 0:
        return np.empty(0)
    count = int.from_bytes(content[12:16])
    if int.from_bytes(content[4:8]) == 0 and len(content) == 20 + 12 * count:
        return np.frombuffer(content, dtype=[("size", ">i4"), ("value", ">f8")], offset=20)["value"].astype(float)
    values = np.empty(count)
    at = 20
    for i in range(count):
        size = int.from_bytes(content[at : at + 4], signed=True)
        at += 4
        if size < 0:
            values[i] = np.nan
        else:
            values[i] = np.frombuffer(content, dtype=">f8", count=1, offset=at)[0]
            at += size
    return values


def _as_numbers(frame: pd.DataFrame) -> Any:
    try:
        return frame.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        return frame  # text or objects: the estimator says what it makes of them


def _number(value: Any) -> Any:
    """Read a JSON value of a record: to_jsonb writes the floats that JSON lacks as text."""
    if value is None:
        return np.nan
    return {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}.get(value, value) if isinstance(value, str) else value


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return "{" + ",".join(_text(cell) for cell in value) + "}"
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, float):
        text = repr(plain)
        return _NAMES.get(text, text)
    if isinstance(plain, bool):
        return "true" if plain else "false"
    return str(plain)


def _json(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_json(cell) for cell in value]
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, float):
        text = repr(plain)
        return _NAMES.get(text, plain)
    return plain if isinstance(plain, str | int | bool | None) else str(plain)

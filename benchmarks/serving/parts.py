"""Where an answer's time goes in the scoring app itself, without a server or a client: `python -m benchmarks.serving.parts`.

The app is called in this process, one request after another, so that what it needs is in the processor's caches: over HTTP all of
it takes longer.  The parts take turns, round by round.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.bench import Report, arguments
from benchmarks.serving import servers
from benchmarks.serving.__main__ import ARROW, arrow
from benchmarks.serving.servers import COLUMNS

PARTS = ("the body read", "the model", "the answer written", "the log")


class Timed:
    """The app of a folder, with clocks around its parts; seconds by part, of each request."""

    def __init__(self, folder: Path) -> None:
        from dbml.serving.app import answers, front, rows
        from dbml.serving.app.application import make_app
        from dbml.serving.app.dialects import azureml
        from dbml.serving.app.front import Drain, Keys
        from dbml.serving.app.scoring import Limits
        from dbml.serving.app.scripts import Script
        from dbml.serving.app.server import set_up_logging
        from dbml.serving.app.service import Service

        set_up_logging()
        self.taken: dict[str, list[float]] = defaultdict(list)
        for owner, name, part in (
            (rows, "from_arrow", PARTS[0]), (rows, "from_json", PARTS[0]), (azureml, "_load", PARTS[0]),
            (Script, "predict", PARTS[1]), (answers, "to_arrow", PARTS[2]), (answers, "to_json", PARTS[2]),
            (front, "log_lines", PARTS[3]),
        ):  # fmt: skip
            self._clock(owner, name, part)
        service = Service(folder, Limits())
        gc.collect()
        gc.freeze()  # as the server does
        self._app = make_app(service, keys=Keys(None), drain=Drain(), max_body_bytes=100 << 20)

    def _clock(self, owner: Any, name: str, part: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def timed(*given: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return original(*given, **options)
            finally:
                self.taken[part].append(time.perf_counter() - began)

        setattr(owner, name, timed)

    async def ask(self, kind: str, body: bytes) -> None:
        """Ask once; the answer must be 200."""

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            assert message.get("status", 200) == 200, message

        headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
        scope = {"type": "http", "method": "POST", "path": "/score", "query_string": b"", "headers": headers, "client": ("", 0)}
        began = time.perf_counter()
        await self._app(scope, receive, send)
        self.taken["whole"].append(time.perf_counter() - began)

    async def measure(self, kind: str, body: bytes, times: int) -> dict[str, float]:
        """Return the median microseconds of the whole and of its parts."""
        for _ in range(times // 10):
            await self.ask(kind, body)
        self.taken.clear()
        for _ in range(times):
            await self.ask(kind, body)
        return {part: _middle(found, times) for part, found in self.taken.items()}


def _middle(found: list[float], times: int) -> float:
    """Return the median of a part's sums over each request, in microseconds."""
    each = len(found) // times
    return statistics.median(sum(found[at : at + each]) for at in range(0, len(found), each)) * 1e6


def main() -> None:
    """Print the table."""
    given = arguments(__doc__ or "")
    rounds, times = (1, 20) if given.quick else (5, 400)
    random = np.random.default_rng(0)
    model = servers.trained(random)
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="dbml-bench-") as place:
        folder = Path(place)
        server, _ = servers.make(folder, model)
        shown, sys.stderr = sys.stderr, (folder / "log").open("w")
        try:
            app = Timed(Path(server[0].folder))
            one, many = random.random((1, len(COLUMNS))), random.random((1000, len(COLUMNS)))
            cases = (
                ("1 row, JSON", "application/json", server[0].body(one)), ("1,000 rows, Arrow", ARROW, arrow(many)),
                ("1,000 rows, JSON", "application/json", server[0].body(many)),
            )  # fmt: skip
            for _ in range(rounds):
                for name, kind, body in cases:
                    found[name].append(uvloop.run(app.measure(kind, body, times)))
        finally:
            sys.stderr.close()
            sys.stderr = shown
    report = Report("the scoring app alone: microseconds of an answer")
    middles = {name: {part: statistics.median(one[part] for one in taken) for part in taken[0]} for name, taken in found.items()}
    for name, parts in middles.items():
        told = ", ".join(f"{part} {parts[part]:.0f}" for part in PARTS)
        report.note(name, f"{parts['whole']:.0f}: {told}, the rest {parts['whole'] - sum(parts[part] for part in PARTS):.0f}")
    wholes = {name: parts["whole"] for name, parts in middles.items()}
    report.ratio(
        "1,000 rows: Arrow over JSON, without HTTP", wholes["1,000 rows, JSON"] / wholes["1,000 rows, Arrow"], at_least=5.0
    )
    report.show()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

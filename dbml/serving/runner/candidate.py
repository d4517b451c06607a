"""The second version of a service: what runs beside the first one, and when that is told of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

import psycopg

from dbml import errors
from dbml.serving.export.folder import ContentWrong
from dbml.serving.runner.contract import Instance, NotHere, Serving

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
LEAVE_S = 0.5  # in which the first version has read that there is no other
DRAIN_S = 10.0
TELL_S = 1.0
KEPT = 200  # comparisons that are told at a time, those that differ first

Wanted = Mapping[str, Any]


class Candidate:
    """Makes what runs beside the service what is wanted beside it, by the runner's own thread.

    prepare: makes what is started, in another thread.  start, tell: as a target's start_beside and tell.
    """

    def __init__(
        self, prepare: Callable[[dict[str, Any]], Future[Serving]], start: Callable[[Serving], tuple[Instance, str]],
        tell: Callable[[Mapping[str, Any] | None], None], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._prepare, self._start_it, self._tell_it, self._say = prepare, start, tell, say
        self._wanted: Wanted | None = None
        self._built: Future[Serving] | None = None
        self._serving: Serving | None = None
        self._process: Instance | None = None
        self._address = ""
        self._leaving: list[tuple[float, Instance]] = []
        self._pause_s, self._again_at = FIRST_PAUSE_S, float("inf")
        self._was_ready = False
        self._told_at = float("-inf")
        self._news: dict[str, Any] = {}
        self._heard = Heard()

    def hear(self, generation: int, line: str) -> None:
        """Take a line in which the service's process says how a comparison ended; from any thread."""
        self._heard.add(generation, line)

    def want(self, wanted: Wanted | None) -> None:
        """Take what is wanted beside the service, None for nothing."""
        if wanted == self._wanted:
            return
        former, self._wanted = self._wanted, wanted
        if former is not None and (wanted is None or wanted["generation"] != former["generation"]):
            self._leave(f"generation {former['generation']} is a candidate no more")
        if wanted is None:
            return
        if former is None or wanted["generation"] != former["generation"]:
            self._say(f"generation {wanted['generation']} is a candidate: {', '.join(wanted['models']) or wanted['image']}")
            self._built = self._prepare({**wanted, "keys": None})
        elif self._process is not None and self._process.is_ready:
            self._tell()

    def _leave(self, why: str) -> None:
        """Ask it nothing more, and have it end a moment later."""
        self._say(why)
        self._tell_it(None)
        self._built = self._serving = None
        self._again_at, self._pause_s, self._was_ready = float("inf"), FIRST_PAUSE_S, False
        if self._process is not None:
            self._leaving.append((time.monotonic() + LEAVE_S, self._process))
            self._process = None

    def _tell(self) -> None:
        """Have what serves know of it."""
        assert self._wanted is not None
        wanted = self._wanted
        self._tell_it({
            "address": self._address, "generation": wanted["generation"], "percent": wanted["traffic_percent"],
            "shadow": wanted["shadow"], "models": sorted({model.rpartition(":")[0] for model in wanted["models"]}),
        })  # fmt: skip

    def look(self, news: dict[str, Any], behind: bool) -> None:
        """Look at what runs, do what is next, and add what is new to the runner's news.

        behind: the database has not heard the last news yet, and comparisons wait.
        """
        now = time.monotonic()
        if self._built is not None and self._built.done():
            built, self._built = self._built, None
            try:
                self._serving = built.result()
                self._start()
            except (errors.DbmlError, psycopg.Error, OSError, ValueError, ContentWrong, NotHere) as error:
                self._state("Failed", str(error))
        if self._process is not None:
            self._look_at(self._process)
        if self._process is None and self._serving is not None and now >= self._again_at:
            try:
                self._start()
            except (errors.DbmlError, OSError, NotHere) as error:
                self._pause(f"the candidate cannot be started again: {error}")
        for at, process in list(self._leaving):
            if now >= at:
                process.stop(DRAIN_S)
            if (how := process.ended()) is not None:
                self._buried(process, how)
                self._leaving.remove((at, process))
        self._pass_on(news, now, behind)

    def _look_at(self, process: Instance) -> None:
        if process.is_ready and not self._was_ready:
            self._was_ready, self._pause_s = True, FIRST_PAUSE_S
            self._tell()
            self._state("Healthy", None)
            self._say(f"generation {process.generation} answers beside it")
        how = process.ended()
        if how is None:
            return
        self._tell_it(None)
        self._buried(process, how)
        self._process = None
        if self._was_ready:
            self._was_ready = False
            self._pause(f"the candidate has ended: {how}")
        else:
            self._serving = None
            self._state("Failed", f"the candidate did not come up ({how}); its log says why")

    def _pause(self, why: str) -> None:
        self._state("Unhealthy", why)
        self._again_at = time.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

    def _start(self) -> None:
        assert self._serving is not None
        self._again_at = float("inf")
        self._process, self._address = self._start_it(self._serving)
        one = {"generation": self._process.generation, "kind": self._process.kind, "identity": self._process.identity}
        self._news.setdefault("started", []).append(one)

    def _state(self, state: str, error: str | None) -> None:
        if self._wanted is not None:
            self._news["candidate"] = {"generation": self._wanted["generation"], "state": state, "error": error}

    def _buried(self, process: Instance, how: str) -> None:
        process.close()
        self._news.setdefault("ended", []).append({"identity": process.identity, "ended_by": how})

    def _pass_on(self, news: dict[str, Any], now: float, behind: bool) -> None:
        for key in ("started", "ended"):
            if key in self._news:
                news.setdefault(key, []).extend(self._news.pop(key))
        if "candidate" in self._news:
            news["candidate"] = self._news.pop("candidate")
        if self._wanted is None or behind or now < self._told_at + TELL_S:
            return
        self._told_at = now
        counts, rows = self._heard.take(self._wanted["generation"])
        if counts:
            news["candidate"] = {"generation": self._wanted["generation"], **news.get("candidate", {}), **counts}
            news["comparisons"] = rows

    def end(self, drain_s: float) -> list[Instance]:
        """Have everything end; returns what still does."""
        if self._wanted is not None:
            self._leave("the candidate ends with the runner")
        for _, process in self._leaving:
            process.stop(drain_s)
        return [process for _, process in self._leaving]


class Heard:
    """Comparisons between two reports: all counted, some kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._compared = self._differing = self._dropped = 0
        self._largest: float | None = None
        self._rows: list[dict[str, Any]] = []

    def add(self, generation: int, line: str) -> None:
        """Take a line of the scoring app's log."""
        try:
            said = json.loads(line)
            asked_at = datetime.strptime(said["time"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
            row = {"generation": generation, "asked_at": asked_at.isoformat(), **{name: said[name] for name in (
                "candidate", "request_id", "path", "agrees", "largest_difference", "status", "candidate_status", "ms",
                "candidate_ms", "answer", "candidate_answer")}}  # fmt: skip
        except (ValueError, KeyError, TypeError):
            return  # a print of the score.py's own that looks like one
        with self._lock:
            self._compared += 1
            self._differing += not row["agrees"]
            self._dropped += int(said.get("dropped", 0))
            if row["largest_difference"] is not None:
                self._largest = max(self._largest or 0.0, float(row["largest_difference"]))
            if len(self._rows) < KEPT:
                self._rows.append(row)
            elif not row["agrees"]:
                place = next((at for at, kept in enumerate(self._rows) if kept["agrees"]), None)
                if place is not None:
                    self._rows[place] = row

    def take(self, candidate: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return counts and rows of a candidate since the last time; nothing where there was none."""
        with self._lock:
            if not self._compared:
                return {}, []
            rows = [row for row in self._rows if row["candidate"] == candidate]
            counts = {"compared": self._compared, "differing": self._differing, "dropped": self._dropped}
            largest = {} if self._largest is None else {"largest_difference": self._largest}
            self._clear()
        return counts | largest, rows

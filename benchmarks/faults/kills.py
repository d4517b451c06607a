"""The ways to kill a process of each kind."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

import psutil
import psycopg

from benchmarks.faults.world import World


class Faults:
    """The ways to kill, each returns False where there was nothing to kill."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._random = random.Random(seed)
        self._bag: list[str] = []

    def names(self) -> list[str]:
        """Return what there is."""
        return [name.removeprefix("kill_") for name in dir(self) if name.startswith("kill_")]

    def choose(self) -> str:
        """Choose the next one at random, each as often as the others."""
        if not self._bag:
            self._bag = self.names()
            self._random.shuffle(self._bag)
        return self._bag.pop()

    def kill(self, name: str) -> bool:
        """Do it."""
        done: bool = getattr(self, f"kill_{name}")()
        return done

    def _kill(self, process: psutil.Process | None) -> bool:
        try:
            if process is None:
                return False
            process.kill()
        except psutil.NoSuchProcess:
            return False
        return True

    def _serving(self) -> psutil.Process | None:
        assert self._world.worker is not None
        with contextlib.suppress(psycopg.Error, psutil.NoSuchProcess), self._world.connect() as connection:
            (ping,) = connection.execute("select dbml_channel.ping()").fetchone()  # type: ignore[misc]
            return psutil.Process(ping["pid"])
        return None

    def _status(self, what: str) -> list[psutil.Process]:
        """Return the processes that the worker says are its zygotes, or its scorers."""
        found = []
        with contextlib.suppress(psycopg.Error), self._world.connect() as connection:
            (pids,) = connection.execute(f"select {what} from dbml.worker_status").fetchone()  # type: ignore[misc, arg-type]
            for pid in pids:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found.append(psutil.Process(pid))
        return found

    def _any(self, found: list[psutil.Process]) -> bool:
        return self._kill(self._random.choice(found)) if found else False

    def kill_satellite(self) -> bool:
        """Kill a script's process, at work or in waiting."""
        scorers = self._status("scorers")
        found = []
        for zygote in self._status("zygotes"):
            with contextlib.suppress(psutil.Error):
                found += [process for process in zygote.children() if process not in scorers and "sleep" not in process.name()]
        return self._any(found)

    def kill_scorer(self) -> bool:
        """Kill a process that keeps models."""
        return self._any(self._status("scorers"))

    def kill_zygote(self) -> bool:
        """Kill the process that satellites are forked from."""
        return self._any(self._status("zygotes"))

    def kill_sandbox(self) -> bool:
        """Kill the process that holds the zygote's sandbox, or the zygote where that is the same."""
        serving = self._serving()
        return self._any(serving.children() if serving is not None else [])

    def kill_worker(self) -> bool:
        """Kill the process that listens and routes."""
        return self._kill(self._serving())

    def kill_supervisor(self) -> bool:
        """Kill the process that watches it; systemd starts it again, here the benchmark does."""
        worker = self._world.worker
        assert worker is not None
        worker.kill()
        worker.wait()
        self._world.start_worker()
        return True

    def kill_session(self) -> bool:
        """End a backend that is at work for a caller."""
        with contextlib.suppress(psycopg.Error), self._world.connect() as connection:
            row = connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend'"
                " and pid <> pg_backend_pid() and application_name <> 'dbml worker' and state = 'active'"
                " order by random() limit 1"
            ).fetchone()
            return row is not None
        return False

    def kill_records(self) -> bool:
        """End the backend of the worker's own session."""
        with contextlib.suppress(psycopg.Error), self._world.connect() as connection:
            row = connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'dbml worker'"
            ).fetchone()
            return row is not None
        return False

    def kill_backend(self) -> bool:
        """Kill a backend with SIGKILL: the server ends all others, and recovers."""
        with contextlib.suppress(psycopg.Error, ProcessLookupError):
            with self._world.connect() as connection:
                row = connection.execute(
                    "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
                    " order by random() limit 1"
                ).fetchone()
            if row is not None:
                os.kill(row[0], signal.SIGKILL)
                return True
        return False

    def _server(self, number: int) -> bool:
        running = self._world.cluster.status()
        if running is None:
            return False
        os.kill(running.pid, number)
        deadline = time.monotonic() + 20
        while self._world.cluster.status() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        self._world.cluster.start()
        return True

    def kill_server(self) -> bool:
        """Kill the postmaster, and start it again."""
        return self._server(signal.SIGKILL)

    def kill_server_at_once(self) -> bool:
        """Shut the server down in the mode `immediate`, and start it again."""
        return self._server(signal.SIGQUIT)

    def kill_server_politely(self) -> bool:
        """Restart the server in the mode `fast`."""
        return self._server(signal.SIGINT)

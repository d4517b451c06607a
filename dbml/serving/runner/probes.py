"""Asking a scoring app how it is: whether it answers, and whether one that did is hung."""

from __future__ import annotations

import http.client
import threading
import time

READY, LIVE = "/v2/health/ready", "/v2/health/live"


def answers(host: str, port: int, path: str, timeout_s: float) -> bool:
    """Tell whether the app answers a health request with 200 in time."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Watch:
    """Asks an app again and again, in a thread; `hung` is true from the moment when it has not answered several times in turn.

    interval_s: between two questions, and the time for an answer.  A question that is not answered is asked again at once.
    """

    def __init__(self, address: tuple[str, int], interval_s: float, failures: int) -> None:
        self._address, self._interval_s, self._most = address, interval_s, failures
        self._stop = threading.Event()
        self.hung = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        failed = 0
        while not self._stop.wait(0 if failed else self._interval_s):
            began = time.monotonic()
            if answers(*self._address, LIVE, self._interval_s):
                failed = 0
                continue
            failed += 1
            if failed >= self._most:
                self.hung = not self._stop.is_set()
                return
            # Refused at once is not hung: what has ended is seen otherwise, and gets the same time.
            self._stop.wait(max(0.0, self._interval_s - (time.monotonic() - began)))

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()

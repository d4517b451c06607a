"""Peak memory of backend and worker while predict_into runs over 1 and over 5 million rows: `python -m benchmarks.memory`."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from benchmarks.bench import Report, arguments, connect, make_rows, register_ridge, served


def private_mb(pid: int) -> float:
    """Return a process' proportional share of memory in MB, 0 where it is gone.

    What may not be looked into (the worker, but for root) gives its resident size instead.
    """
    for name, key in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        try:
            for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
                if line.startswith(key):
                    return int(line.split()[1]) / 1024
        except OSError:
            continue
    return 0.0


class Peak:
    """Samples the memory of some processes until it is closed."""

    def __init__(self, pids: dict[str, list[int]]) -> None:
        self.peak = dict.fromkeys(pids, 0.0)
        self._pids = pids
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._over.is_set():
            for name, pids in self._pids.items():
                self.peak[name] = max(self.peak[name], sum(private_mb(pid) for pid in pids))
            time.sleep(0.02)

    def close(self) -> dict[str, float]:
        """Stop; returns the peaks in MB."""
        self._over.set()
        self._thread.join()
        return self.peak


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    sizes = (10_000, 50_000) if options.quick else (1_000_000, 5_000_000)
    peaks = []
    with served(options.major) as (dsn, worker):
        with connect(dsn) as connection:
            register_ridge(connection, "ridge")
        for rows in sizes:
            with connect(dsn) as connection:  # a fresh backend for each size
                make_rows(connection, "given", rows)
                connection.execute("select dbml.predict_json('ridge', 'select * from given limit 1')")
                row = connection.execute("select dbml_channel.ping() -> 'scorers'").fetchone()
                peak = Peak({"backend": [connection.info.backend_pid], "worker": [worker, *(row[0] if row else [])]})
                connection.execute("select dbml.predict_into('ridge', 'select * from given', 'scored', 'replace')")
                peaks.append(peak.close())
    report = Report("peak memory of predict_into (proportional set size)")
    for name in peaks[0]:
        for rows, found in zip(sizes, peaks, strict=True):
            report.note(f"{name}, {rows:,} rows", f"{found[name]:.0f} MB")
        report.ratio(f"{name}: MB more", peaks[1][name] - peaks[0][name], at_most=300)
    report.show()


if __name__ == "__main__":
    main()

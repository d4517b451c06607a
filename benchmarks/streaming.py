"""Peak memory while rows_per_read streams 2 and 20 million rows through a script: `python -m benchmarks.streaming`."""

from __future__ import annotations

import threading
import time

from benchmarks.bench import Report, arguments, connect, served, timed
from benchmarks.memory import Peak

CALL = """select count(*), max(total) from dbml.run_script($$
state["total"] = state.get("total", 0.0) + InputDataSet.x.sum()
OutputDataSet = [{"rows": len(InputDataSet), "total": state["total"]}]$$,
    'select g as id, g * 0.5::float8 as x from generate_series(1, %s) g', rows_per_read => 50000) as t(n bigint, total float8)"""


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    sizes = (100_000, 300_000) if options.quick else (2_000_000, 20_000_000)
    peaks, seconds = [], []
    with served(options.major) as (dsn, worker):
        for rows in sizes:
            with connect(dsn) as connection, connect(dsn) as watch:  # a fresh backend for each size
                satellites: list[int] = []
                over = threading.Event()
                peak = Peak({"backend": [connection.info.backend_pid], "worker": [worker], "script": satellites})
                watching = threading.Thread(target=_find, args=(watch, satellites, over), daemon=True)
                watching.start()
                seconds.append(timed(lambda: connection.execute(CALL % rows)))  # type: ignore[arg-type] # noqa: B023 - called at once
                over.set()
                watching.join()
                peaks.append(peak.close())
    report = Report("peak memory of run_script with rows_per_read => 50000 (proportional set size)")
    for name in peaks[0]:
        for rows, found in zip(sizes, peaks, strict=True):
            report.note(f"{name}, {rows:,} rows", f"{found[name]:.0f} MB")
        report.ratio(f"{name}: MB more", peaks[1][name] - peaks[0][name], at_most=50)
    report.note("rows a second", f"{sizes[1] / seconds[1]:,.0f}")
    report.show()


def _find(watch: object, satellites: list[int], over: threading.Event) -> None:
    """Fill in the script's process as soon as it runs."""
    while not satellites and not over.is_set():
        row = watch.execute("select satellites from dbml.active_scripts").fetchone()  # type: ignore[attr-defined]
        satellites.extend(row[0] if row else [])
        time.sleep(0.02)


if __name__ == "__main__":
    main()

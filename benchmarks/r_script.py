"""A warm R script of one row against `Rscript -e 1`: `python -m benchmarks.r_script`."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time

from benchmarks.bench import Report, arguments, connect, served, timed

CALL = """select * from dbml.run_script($$OutputDataSet <- transform(InputDataSet, y = x * factor)$$,
    'select 1 as x', params => '{"factor": 3}', language => 'r') as t(x int, y int)"""


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    if shutil.which("Rscript") is None:
        sys.exit("this needs R: apt-get install r-base-core")
    pairs, calls = (2, 2) if options.quick else (9, 9)
    fresh: list[float] = []
    apart: list[float] = []
    together: list[float] = []
    with served(options.major) as (dsn, _), connect(dsn) as connection:
        connection.execute(CALL)
        for _ in range(pairs):
            fresh.append(timed(lambda: subprocess.run(["Rscript", "-e", "1"], check=True, stdout=subprocess.DEVNULL)))
            for _ in range(calls):
                time.sleep(0.5)
                apart.append(timed(lambda: connection.execute(CALL).fetchall()))
            for _ in range(calls):
                together.append(timed(lambda: connection.execute(CALL).fetchall()))
    report = Report("run_script of one row, language => 'r'")
    report.times("Rscript -e 1", fresh)
    report.times("run_script, 0.5 s apart: R is warm", apart)
    report.times("run_script, one call after the other", together)
    report.ratio("times faster, 0.5 s apart", statistics.median(fresh) / statistics.median(apart), at_least=1)
    report.show()


if __name__ == "__main__":
    main()

"""run_script of one row against a fresh Python that imports pandas and scikit-learn: `python -m benchmarks.run_script`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.bench import Report, arguments, connect, served, timed

CALL = """select * from dbml.run_script($$OutputDataSet = InputDataSet.assign(y = InputDataSet.x * factor)$$,
    input_query => 'select 1 as x', params => '{"factor": 3}') as t(x bigint, y bigint)"""


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    pairs, calls = (2, 3) if options.quick else (9, 15)
    fresh: list[float] = []
    apart: list[float] = []
    together: list[float] = []
    with served(options.major) as (dsn, _), connect(dsn) as connection:
        connection.execute(CALL)
        for _ in range(pairs):
            fresh.append(timed(lambda: subprocess.run([sys.executable, "-c", "import pandas, sklearn"], check=True)))
            for _ in range(calls):
                time.sleep(0.1)
                apart.append(timed(lambda: connection.execute(CALL).fetchall()))
            for _ in range(calls):
                together.append(timed(lambda: connection.execute(CALL).fetchall()))
    report = Report("run_script of one row")
    report.times("fresh python -c 'import pandas, sklearn'", fresh)
    report.times("run_script, one call after the other", together, wanted_ms=25)
    report.times("run_script, 0.1 s apart", apart)
    report.ratio("times faster, one after the other", statistics.median(fresh) / statistics.median(together), at_least=40)
    report.ratio("times faster, 0.1 s apart", statistics.median(fresh) / statistics.median(apart), at_least=40)
    report.show()


if __name__ == "__main__":
    main()

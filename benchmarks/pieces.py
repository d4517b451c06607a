"""Groups a second, and parallel => 2 against 1 on a script that only computes: `python -m benchmarks.pieces`."""

from __future__ import annotations

import os
import statistics

from benchmarks.bench import Report, arguments, connect, served, timed

GROUPS = """select count(*) from dbml.run_script('OutputDataSet = {"total": [InputDataSet.x.sum()]}',
    'select g / 100 as k, random() as x from generate_series(0, %s) g', partition_by => '{k}', parallel => %s)
    as t(k int, total float8)"""
WORK = """select * from dbml.run_script($$
total = 0.0
for i in range(%s // parallel):
    total += i * 0.5
OutputDataSet = [{"total": total}]$$, 'select generate_series(1, 100) as x', params => '{"parallel": %s}', parallel => %s)
    as t(total float8)"""


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    groups, loops, pairs = (50, 100_000, 1) if options.quick else (10_000, 40_000_000, 5)
    grouped: dict[int, list[float]] = {1: [], 2: []}
    worked: dict[int, list[float]] = {1: [], 2: []}
    with served(options.major) as (dsn, _), connect(dsn) as connection:
        for parallel in (1, 2):
            connection.execute(WORK % (1000, parallel, parallel))  # type: ignore[arg-type]
        for _ in range(pairs):
            for parallel in (1, 2):
                grouped[parallel].append(timed(lambda: connection.execute(GROUPS % (groups * 100 - 1, parallel))))  # type: ignore[arg-type] # noqa: B023 - called at once
                worked[parallel].append(timed(lambda: connection.execute(WORK % (loops, parallel, parallel))))  # type: ignore[arg-type] # noqa: B023 - called at once
    report = Report(f"run_script in pieces; load of the machine {os.getloadavg()[0]:.1f}")
    for parallel in (1, 2):
        report.times(f"{groups:,} groups of 100 rows, parallel => {parallel}", grouped[parallel])
        report.note(f"groups a second, parallel => {parallel}", f"{groups / statistics.median(grouped[parallel]):,.0f}")
    for parallel in (1, 2):
        report.times(f"a script that computes, parallel => {parallel}", worked[parallel])
    report.ratio(
        "times faster, parallel => 2",
        statistics.median(one / two for one, two in zip(worked[1], worked[2], strict=True)),
        at_least=1.7,
    )
    report.show()


if __name__ == "__main__":
    main()

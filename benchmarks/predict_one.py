"""One-row predict of a Ridge against PL/Python with the model cached in the session: `python -m benchmarks.predict_one`.

Needs PostgreSQL 15 with PL/Python as Debian packages them, and this Python of the same version as theirs (3.11), so
that PL/Python may import this environment's scikit-learn.
"""

from __future__ import annotations

import statistics
import sysconfig

from benchmarks.bench import Report, arguments, connect, register_ridge, served, timed

ROW = "array[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]"
PLPYTHON = f"""
create extension plpython3u;
create function predict_in_backend(model text, features float8[]) returns float8 language plpython3u as $f$
    import sys
    if {sysconfig.get_paths()["purelib"]!r} not in sys.path:
        sys.path.insert(0, {sysconfig.get_paths()["purelib"]!r})
    if model not in GD:
        import pickle
        GD[model] = pickle.loads(plpy.execute(plpy.prepare("select dbml.model_bytes($1) as b", ["text"]), [model])[0]["b"])
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(GD[model].predict([features])[0])
$f$"""


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    blocks, calls, sessions = (2, 20, 1) if options.quick else (15, 100, 5)
    ours, theirs = (f"select {function}('ridge', {ROW})" for function in ("dbml.predict", "predict_in_backend"))
    times: dict[str, list[float]] = {ours: [], theirs: []}
    first: dict[str, list[float]] = {ours: [], theirs: []}
    with served(options.major or 15) as (dsn, _):
        with connect(dsn) as connection:
            connection.execute(PLPYTHON)  # type: ignore[arg-type]
            register_ridge(connection, "ridge")
            answers = {statement: connection.execute(statement).fetchone() for statement in times}  # type: ignore[arg-type]
            assert abs(answers[ours][0] - answers[theirs][0]) < 1e-12, answers
            for _ in range(blocks):
                for statement, taken in times.items():
                    taken += [timed(lambda s=statement: connection.execute(s).fetchone()) for _ in range(calls)]  # type: ignore[misc]
        for _ in range(sessions):
            for statement, taken in first.items():

                def fresh(statement: str = statement) -> None:
                    with connect(dsn) as new:
                        new.execute(statement)  # type: ignore[arg-type]

                taken.append(timed(fresh))
    report = Report("one-row predict of a Ridge, PostgreSQL 15")
    report.times("dbml.predict", times[ours])
    report.times("PL/Python, model cached", times[theirs])
    report.ratio(
        "time of dbml.predict / PL/Python", statistics.median(times[ours]) / statistics.median(times[theirs]), at_most=1.5
    )
    report.times("fresh connection: dbml.predict", first[ours])
    report.times("fresh connection: PL/Python", first[theirs])
    report.ratio("fresh connection: times faster", statistics.median(first[theirs]) / statistics.median(first[ours]), at_least=20)
    report.show()


if __name__ == "__main__":
    main()

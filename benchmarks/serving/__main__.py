"""The scoring app against three others, of the same model, in turn: one row with 1 and 8 connections, a thousand rows.

Also how long each takes to score its first row, what memory it holds, and bodies in Arrow's format against JSON.
"""

from __future__ import annotations

import io
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmarks.bench import Report, arguments
from benchmarks.serving import client, servers
from benchmarks.serving.servers import COLUMNS, Server

WANTED = {"azureml-inference-server-http": 2.0, "MLflow": 3.0, "FastAPI": 1.0}
CASES = (("1 row, 1 connection", 1, 1), ("1 row, 8 connections", 1, 8), ("1,000 rows, 1 connection", 1000, 1))
ARROW = "application/vnd.apache.arrow.stream"


def arrow(rows: np.ndarray) -> bytes:
    """Return rows as an Arrow stream."""
    table = pa.table({name: rows[:, at] for at, name in enumerate(COLUMNS)})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def measure(running: list[Server], folder: Path, rounds: int, seconds: float) -> dict[tuple[str, str], list[dict[str, float]]]:
    """Ask every server every case, in turn, round by round."""
    random = np.random.default_rng(1)
    found = defaultdict(list)
    for at in range(rounds):
        for case, count, connections in CASES:
            rows = random.random((count, len(COLUMNS)))
            for server in running if at % 2 == 0 else running[::-1]:
                answer = client.ask(
                    server.port, server.path, server.body(rows), "application/json", connections=connections, seconds=seconds,
                    folder=folder,
                )  # fmt: skip
                found[case, server.name].append(answer)
            if count > 1:
                ours = running[0]
                for what, path in (("Arrow", "/score"),):
                    answer = client.ask(
                        ours.port, path, arrow(rows), ARROW, connections=connections, seconds=seconds, folder=folder
                    )
                    found[case, f"{ours.name}, {what}"].append(answer)
    return found


def main() -> None:
    """Print the table."""
    given = arguments(__doc__ or "")
    rounds, seconds = (1, 0.2) if given.quick else (3, 1.0)
    random = np.random.default_rng(0)
    model = servers.trained(random)
    with tempfile.TemporaryDirectory(prefix="dbml-bench-") as place:
        folder = Path(place)
        compared, missing = servers.make(folder, model)
        running: list[Server] = []
        try:
            for server in compared:
                server.start()
                running.append(server)
            found = measure(running, folder, rounds, seconds)
            memory = {server.name: server.memory_mb() for server in running}
            started = {server.name: [server.started_s] for server in running}
            for _ in range(0 if given.quick else 2):
                for server in running:
                    server.stop()
                    server.start()
                    started[server.name].append(server.started_s)
        finally:
            for server in running:
                server.stop()
    rates = {key: statistics.median(one["rate"] for one in answers) for key, answers in found.items()}
    figures = Table(title="answers a second, median of the rounds")
    for column in ("", *(case for case, _, _ in CASES), "first row after", "memory"):
        figures.add_column(column)
    for name in dict.fromkeys(name for _, name in rates):
        cells = []
        for case, _, _ in CASES:
            answers = found.get((case, name))
            p50 = statistics.median(one["p50_ms"] for one in answers) if answers else 0
            cells.append(f"{rates[case, name]:,.0f}/s, {p50:.2f} ms" if answers else "")
        start = f"{statistics.median(started[name]):.2f} s" if name in started else ""
        figures.add_row(name, *cells, start, f"{memory[name]:.0f} MB" if name in memory else "")
    Console(width=150).print(figures)
    report = Report("the scoring app against others, one process each")
    for case, _, _ in CASES:
        for name, wanted in WANTED.items():
            if (case, name) in rates:
                report.ratio(f"{case}: dbml over {name}", rates[case, "dbml"] / rates[case, name], at_least=wanted)
    last = CASES[-1][0]
    report.ratio(f"{last}: Arrow over JSON", rates[last, "dbml, Arrow"] / rates[last, "dbml"], at_least=5.0)
    for name in missing:
        report.note(name, "not installed: pip install -e '.[test]'")
    report.show()


if __name__ == "__main__":
    main()

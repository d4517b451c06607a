"""Feed hostile bytes to everything that reads them, and print what came of it.

    python -m benchmarks.fuzz [--runs 1000000] [--quick] [--seed 1] [--plain] [wire columns requests pickle r]

Each target is a process of its own.  With atheris (pip install -e '.[fuzz]') what an input reaches guides the next;
without it, or with --plain, valid samples are mutated.  An input that raises what is not declared, or takes longer
than LONGEST_S, ends its target, and is kept.  Exit code 1 where one does, or where memory grew.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

LONGEST_S = 5.0
MOST_MB = 3072
GROWTH_MB = 64.0  # from a tenth of the way to its end
NAMES = ("wire", "columns", "requests", "pickle", "r")


class Meter:
    """Counts inputs and watches over time and memory; writes what it has seen when all are through."""

    def __init__(self, feed: Callable[[bytes], object], runs: int, result: Path) -> None:
        self.feed = feed
        self.runs = runs
        self.result = result
        self.count = 0
        self.slowest_s = 0.0
        self.early_mb = 0.0
        self.began = time.process_time()

    def one(self, data: bytes) -> None:
        """Feed one input."""
        began = time.process_time()  # not the clock: others may use the machine
        self.feed(data)
        took = time.process_time() - began
        self.slowest_s = max(self.slowest_s, took)
        if took > LONGEST_S:
            raise TimeoutError(f"an input took {took:.1f} s")
        self.count += 1
        if self.count == max(1, self.runs // 10):
            self.early_mb = memory_mb()
        if self.count == self.runs:
            took = time.process_time() - self.began
            self.result.write_text(json.dumps({
                "count": self.count, "rate": self.count / took, "slowest_ms": self.slowest_s * 1000,
                "growth_mb": memory_mb() - self.early_mb, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }))  # fmt: skip


def memory_mb() -> float:
    """Return the memory of this process that is in use now."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize() / (1 << 20)


def guided(name: str, runs: int, seed: int, result: Path, folder: Path) -> None:
    """Fuzz one target with atheris; does not return."""
    import atheris

    with atheris.instrument_imports(
        include=["dbml.worker.wire", "dbml.worker.requests", "dbml.columns", "dbml.formats", "dbml.worker.r.wire"]
    ):
        from benchmarks.fuzz.targets import TARGETS
    target = TARGETS[name]
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, sample in enumerate(target.samples):
        (corpus / f"sample{number}").write_bytes(sample)
    meter = Meter(target.feed, runs, result)
    atheris.Setup(
        [sys.argv[0], f"-runs={runs}", f"-seed={seed}", "-max_len=4096", f"-timeout={LONGEST_S:.0f}", "-rss_limit_mb=4096",
         f"-artifact_prefix={folder}/found-", "-verbosity=0", str(corpus)], meter.one,
    )  # fmt: skip
    atheris.Fuzz()


def mutated(name: str, runs: int, seed: int, result: Path, folder: Path) -> None:
    """Fuzz one target with mutations of its samples."""
    from benchmarks.fuzz.mutate import inputs
    from benchmarks.fuzz.targets import TARGETS

    target = TARGETS[name]
    meter = Meter(target.feed, runs, result)
    signal.signal(signal.SIGPROF, _too_long)
    for number, data in enumerate(inputs(target.samples, seed)):
        if number == runs:
            return
        signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
        try:
            meter.one(data)
        except BaseException:
            (folder / "found-input").write_bytes(data)
            raise
    signal.setitimer(signal.ITIMER_PROF, 0)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"an input took longer than {LONGEST_S} s")


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Fuzz one target in a process of its own; returns its figures, and what went wrong."""
    with tempfile.TemporaryDirectory(prefix="dbml-fuzz-") as folder:
        result = Path(folder, "result.json")
        command = [
            sys.executable,
            "-m",
            "benchmarks.fuzz",
            "--inner",
            folder,
            "--runs",
            str(options.runs),
            "--seed",
            str(options.seed),
            name,
        ]
        done = subprocess.run([*command, *(["--plain"] if options.plain else [])], capture_output=True, text=True, check=False)
        figures: dict[str, Any] = json.loads(result.read_text()) if result.exists() else {}
        for found in Path(folder).glob("found-*"):
            kept = Path(tempfile.gettempdir(), f"dbml-fuzz-{name}-{found.name}")
            kept.write_bytes(found.read_bytes())
            figures["crash"] = f"{kept}: " + done.stderr[-3000:]
        if done.returncode != 0 and "crash" not in figures:
            figures["crash"] = f"exit code {done.returncode}: {done.stderr[-3000:]}"
        return figures


def main() -> None:
    """Fuzz the targets in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs for each target (default: 1000000)")
    parser.add_argument("--quick", action="store_true", help="2,000 inputs each: shows that it runs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="mutations alone, without atheris")
    parser.add_argument("--inner", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", choices=[*NAMES, []], help="default: all")
    options = parser.parse_args()
    options.plain = options.plain or importlib.util.find_spec("atheris") is None
    if options.quick:
        options.runs = 2000
    if options.inner:
        resource.setrlimit(resource.RLIMIT_DATA, (MOST_MB << 20, MOST_MB << 20))
        fuzz = mutated if options.plain else guided
        fuzz(options.targets[0], options.runs, options.seed, Path(options.inner, "result.json"), Path(options.inner))
        return
    way = "mutated samples" if options.plain else "guided by coverage, with atheris"
    table = Table(
        "target", "inputs", "a second of CPU", "crashes", "slowest input, ms", "growth, MB", title=f"hostile bytes, {way}"
    )
    wrong = False
    for name in options.targets or NAMES:
        figures = run(name, options)
        crashed = "crash" in figures or figures.get("count") != options.runs
        grew = figures.get("growth_mb", 0.0) > GROWTH_MB
        wrong |= crashed or grew
        if crashed:
            print(f"{name}: {figures.get('crash')}", file=sys.stderr, flush=True)
        table.add_row(
            name, f"{figures.get('count', 0):,}", f"{figures.get('rate', 0):,.0f}", "1" if crashed else "0",
            f"{figures.get('slowest_ms', 0):.0f}", f"{figures.get('growth_mb', 0):+.1f}",
        )  # fmt: skip
        print(
            f"{name}: {json.dumps({key: value for key, value in figures.items() if key != 'crash'})}", file=sys.stderr, flush=True
        )
    Console(width=120).print(table)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

"""Ten thousand files into the default datastore, again, and down: time, and the client's memory: `python -m benchmarks.folder`.

The same files are copied within the machine for comparison, as scp would at its best.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path

from benchmarks.bench import Report, arguments, served, timed
from benchmarks.memory import Peak


def make(folder: Path, count: int) -> int:
    """Write files of 0 to 20 kB into folders of a hundred; returns their size."""
    letters = random.Random(0)
    total = 0
    for number in range(count):
        file = folder / f"{number // 100:03}" / f"{number:05}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        total += file.write_bytes(letters.randbytes(letters.randrange(20_000)))
    return total


def same(one: Path, other: Path) -> bool:
    """Tell whether two folders have the same files with the same bytes."""
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    there = sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    return names == there and all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    count = 200 if options.quick else 10_000
    beside = Path(tempfile.mkdtemp(prefix="dbml-folder-"))
    try:
        size = make(beside / "up", count)
        with served(options.major) as (dsn, _):
            os.environ["DBML_DSN"] = dsn
            from dbml.core import Workspace

            store = Workspace.get("default").get_default_datastore()
            peak = Peak({"client": [os.getpid()]})
            up = timed(lambda: store.upload(beside / "up", overwrite=True, show_progress=False))
            again = timed(lambda: store.upload(beside / "up", overwrite=True, show_progress=False))
            down = timed(lambda: store.download(beside / "down", show_progress=False))
            memory = peak.close()["client"]
            equal = same(beside / "up", beside / "down")
            copied = timed(lambda: shutil.copytree(beside / "up", beside / "copy"))
        report = Report(f"{count:,} files, {size / 1e6:.0f} MB, into the database and back")
        report.times("up", [up])
        report.times("up again, nothing to send", [again])
        report.times("down", [down])
        report.times("copied on the machine", [copied])
        report.note("bytes equal", str(equal))
        report.ratio("peak memory of the client, MB", memory, at_most=400)
        report.show()
    finally:
        shutil.rmtree(beside, ignore_errors=True)


if __name__ == "__main__":
    main()

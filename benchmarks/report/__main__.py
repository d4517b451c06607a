"""Measure, and write docs/benchmarks.md with its plots and its figures as JSON: `python -m benchmarks.report`.

Needs `pip install -e '.[report]'`.  Takes seven minutes on two processors; `--only` measures some parts again and keeps the
figures of the others.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.report import machine, page, results
from benchmarks.report.parts import PARTS, Setting
from benchmarks.report.results import Part

DOCS = Path(__file__).parents[2] / "docs"


def main() -> None:
    """Measure the parts that are asked for and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--folder", type=Path, help="where the page goes (default: docs)")
    parser.add_argument("--ten-million", action="store_true", help="ten million rows as well: some minutes more")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs, its figures mean nothing")
    parser.add_argument("--major", type=int, default=None, help="PostgreSQL's major version (default: the newest found)")
    options = parser.parse_args()
    if options.quick and options.folder is None:
        parser.error("--quick needs --folder: its figures mean nothing, and must not replace the page's")
    folder = options.folder or DOCS
    folder.mkdir(parents=True, exist_ok=True)
    kept = results.read(folder / "benchmarks.json")["parts"]
    setting = Setting(quick=options.quick, ten_million=options.ten_million, major=options.major)
    for name in options.only:
        part = Part(name, machine.moment())
        began = time.monotonic()
        PARTS[name](part, setting)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        for wish in part.wishes:
            print(f"  {wish.what}: {wish.value:,.2f}, wanted {wish.wanted}, {'met' if wish.met else 'NOT MET'}", flush=True)
        kept[name] = part
        results.write(folder / "benchmarks.json", machine.describe(), kept)
    print(page.write(folder, machine.describe(), kept))


if __name__ == "__main__":
    main()

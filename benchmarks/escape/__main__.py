"""Attacks on the sandbox, one table a layer, contained or not: `python -m benchmarks.escape [--layer NAME] [ATTACK ...]`."""

from __future__ import annotations

import argparse
import sys
import time

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.escape.arena import open_arena
from benchmarks.escape.attacks import ATTACKS, judge


def main() -> None:
    """Carry out the attacks and print what became of them; exit code 1 where one was not contained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layer", choices=("bubblewrap", "landlock", "none"), action="append",
                        help="default: the first two; none: the harmless ones with no sandbox, which get through")  # fmt: skip
    parser.add_argument("--major", type=int, default=None, help="PostgreSQL's major version (default: the newest found)")
    parser.add_argument("attacks", nargs="*", help="parts of the names of attacks (default: all)")
    options = parser.parse_args()
    console = Console(width=150)
    wrong = 0
    for layer in options.layer or ("bubblewrap", "landlock"):
        chosen = [found for found in ATTACKS if not options.attacks or any(part in found.name for part in options.attacks)]
        if layer == "none":
            chosen = [found for found in chosen if found.harmless]
        table = Table("attack", "what it tries", "outcome", "s", title=f"layer {layer}: {len(chosen)} attacks")
        with open_arena(layer, options.major) as arena:
            for found in chosen:
                began = time.monotonic()
                got = judge(arena, found)
                wrong += (got is None) == (layer == "none")
                outcome = "contained" if got is None else f"[red]NOT CONTAINED: {escape(got[:200])}"
                table.add_row(found.name, found.description, outcome, f"{time.monotonic() - began:.1f}")
                print(f"{layer}: {found.name}: {'contained' if got is None else got}", file=sys.stderr, flush=True)
        console.print(table)
    console.print(f"{wrong} outcomes are not as they must be" if wrong else "all outcomes are as they must be")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

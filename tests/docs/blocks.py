"""Fenced blocks of Markdown pages, and what runs them.

    sql      runs in psql, all blocks of a page in one session; python likewise, in one namespace
    text     right after one of these: its output; spaces and dashes do not count, and … stands for
             anything in a line, on a line of its own for any lines
    bash     the commands in it must exist, with their options
    console  lines after "$ " are run, the others are their output
    java     runs where a Java is, with DBML_JDBC_URL
    json     must be JSON

A comment `<!-- not run: reason -->` before a block leaves it out; `<!-- afterwards: SQL -->` runs in
the page's session at the end, whatever came before.
"""

from __future__ import annotations

import re
import select
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("sql", "text", "python", "bash", "console", "java", "json")
PATIENCE_S = 60


@dataclass(frozen=True)
class Block:
    """One fenced block. follows: the block that this one is the output of, if it is one."""

    language: str
    text: str
    line: int
    not_run: str | None = None
    follows: bool = False


def pages() -> list[Path]:
    """Return README and everything in docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def read_blocks(page: str) -> list[Block]:
    """Return the blocks of a page in order.

    Raises: ValueError where a fence is not closed.
    """
    blocks: list[Block] = []
    lines = page.splitlines()
    marker = None
    number = 0
    adjacent = False  # nothing but empty lines since the last block
    while number < len(lines):
        line = lines[number]
        fence = re.match(r"^(```+)\s*(\S*)\s*$", line)
        if fence:
            start = number
            number += 1
            while number < len(lines) and lines[number].rstrip() != fence[1]:
                number += 1
            if number == len(lines):
                raise ValueError(f"the block of line {start + 1} must be closed")
            text = "\n".join(lines[start + 1 : number]) + "\n"
            follows = fence[2] == "text" and adjacent and blocks[-1].language in ("sql", "python") and not blocks[-1].not_run
            blocks.append(Block(fence[2], text, start + 1, marker, follows))
            marker, adjacent = None, True
        elif line.strip():
            found = re.fullmatch(r"\s*<!-- not run: (.+) -->\s*", line)
            marker = found[1] if found else None
            adjacent = False
        number += 1
    return blocks


def afterwards(page: str) -> list[str]:
    """Return the statements that clean up after a page."""
    return re.findall(r"<!-- afterwards: (.+?) -->", page, re.DOTALL)


def _normal(line: str) -> str:
    return re.sub(r"-{2,}", "-", " ".join(line.split()))


def matches(expected: str, got: str) -> bool:
    """Tell whether an output is the expected one, spaces aside, … standing for anything."""
    pattern = ""
    for line in filter(None, map(_normal, expected.splitlines())):
        if line == "…":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part) for part in line.split("…")) + "\n"
    lines = [normal for normal in map(_normal, got.splitlines()) if normal]
    return re.fullmatch(pattern, "".join(line + "\n" for line in lines)) is not None


class Psql:
    """One session of psql, fed block by block."""

    def __init__(self, program: Path, dsn: str, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [program, "-X", "-P", "pager=off", "-d", dsn], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**environment, "PGCLIENTENCODING": "UTF8"},
        )  # fmt: skip
        self._number = 0

    def run(self, text: str) -> str:
        """Run statements and return what psql printed: rows, notices, errors."""
        self._number += 1
        mark = f"end-of-block-{self._number}"
        assert self._process.stdin is not None and self._process.stdout is not None
        last = text.rstrip().rpartition("\n")[2]
        statements = text if last.endswith(";") or last.startswith("\\") else f"{text};\n"
        self._process.stdin.write(f"{statements}\\echo {mark}\n".encode())
        self._process.stdin.flush()
        got = b""
        deadline = time.monotonic() + PATIENCE_S
        while not got.endswith(f"{mark}\n".encode()):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"psql must answer within {PATIENCE_S} s, said {got.decode(errors='replace')}")
            part = self._process.stdout.read1(65536)  # type: ignore[attr-defined]
            if not part:
                raise ConnectionError(f"psql ended, said {got.decode(errors='replace')}")
            got += part
        return got.decode()[: -len(mark) - 1]

    def close(self) -> None:
        """End the session."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()

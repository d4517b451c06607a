"""Commands of bash and console blocks: which are there, and do they take these options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from typer.main import get_command

from dbml.cli.app import app

from .blocks import ROOT

HARMLESS = ("status", "verify", "psql", "--version", "--help")
OTHERS = ("psql", "cd", "export", "cat", "less", "cut")


def commands(text: str) -> Iterator[list[str]]:
    """Split lines into commands: at ; && || and |, comments and variables in front left out."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        words: list[str] = []
        for token in [*lexer, ";"]:
            if set(token) <= set(";&|"):
                while words and re.match(r"^\w+=", words[0]):
                    words.pop(0)
                if words:
                    yield words
                words = []
            else:
                words.append(token)


def complaint(words: list[str]) -> str | None:
    """Say what is wrong with a command, None where nothing is."""
    program, rest = words[0].rpartition("/")[2], words[1:]
    if program in OTHERS:
        return None
    if program.startswith("python"):
        if rest[:1] == ["-m"] and rest[1].startswith(("benchmarks.", "dbml.")):
            path = ROOT / rest[1].replace(".", "/")
            return None if path.with_suffix(".py").is_file() or path.is_dir() else f"there is no module {rest[1]}"
        return None if rest and (ROOT / rest[0]).is_file() else f"there is no {' '.join(rest)}"
    if program != "dbml":
        return f"{program} is no command of ours: mark the block <!-- not run: reason -->"
    group = get_command(app)
    if not rest or rest[0].startswith("-"):
        known = {"--help", "-h", "--version"}
        return None if set(rest) <= known else f"dbml has no option {rest}"
    command = group.commands.get(rest[0])  # type: ignore[attr-defined]
    if command is None:
        return f"dbml has no command {rest[0]}"
    if within := getattr(command, "commands", None):
        alone = next((name for name, one in within.items() if one.hidden), None)  # a group that does something by itself
        word = rest[1] if len(rest) > 1 and rest[1] in within else alone
        if word is None:
            return f"dbml {rest[0]} has no command {' '.join(rest[1:2])}"
        command, rest = within[word], [rest[0], *(rest[2:] if word != alone else rest[1:])]
    given = rest[1 : rest.index("--")] if "--" in rest else rest[1:]
    options = {name for option in command.params for name in option.opts} | {"--help", "-h"}
    unknown = [word for word in given if word.startswith("-") and word.partition("=")[0] not in options]
    return f"dbml {rest[0]} has no option {unknown[0]}" if unknown else None


def harmless(words: list[str]) -> bool:
    """Tell whether a command only looks."""
    return words[0].rpartition("/")[2] == "dbml" and len(words) > 1 and words[1] in HARMLESS

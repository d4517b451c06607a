"""Write the generated pages of docs/reference from what the code itself says.

    python docs/generate_reference.py            writes the pages
    python docs/generate_reference.py --check    says which pages differ, exit code 1 where one does

Functions come from the files in sql/ and their `comment on function` (the manual in psql), views from
their comments, errors from the classes of dbml.errors, commands from their help; what an argument
or a column means is in reference/words.toml, once for all pages.  No database is needed.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.main import get_command

from dbml import errors
from dbml.cli.app import app
from dbml.worker.run import Run

ROOT = Path(__file__).resolve().parent.parent
SQL = ROOT / "sql"
PAGES = Path(__file__).resolve().parent / "reference"
WORDS: Mapping[str, Any] = tomllib.loads((PAGES / "words.toml").read_text())

GENERATED = "<!-- Written by docs/generate_reference.py. Change the source, then run it. -->\n"

DEMO_DATA = (
    "The example runs after `dbml demo`, which makes the tables `demo.diabetes` and `demo.iris` and the"
    " models `demo-diabetes` and `demo-iris`."
)


@dataclass(frozen=True)
class Argument:
    """One argument of a function."""

    name: str
    type: str
    default: str | None
    mode: str = ""


@dataclass(frozen=True)
class Routine:
    """One public function or procedure, and its manual entry."""

    kind: str
    name: str
    arguments: tuple[Argument, ...]
    returns: str
    comment: str

    def signature(self) -> str:
        """Return it as one declares it, an argument a line where there are many."""
        shown = [f"{a.mode}{a.name} {a.type}" + (f" DEFAULT {_default(a.default)}" if a.default else "") for a in self.arguments]
        returns = f" -> {self.returns}" if self.returns else ""
        call = "CALL " if self.kind == "procedure" else ""
        one = f"{call}dbml.{self.name}({', '.join(shown)}){returns}"
        if len(one) <= 100:
            return one
        return f"{call}dbml.{self.name}(\n    " + ",\n    ".join(shown) + f"){returns}"


def _default(text: str) -> str:
    return text.upper() if text in ("null", "false", "true") else text


def _split(text: str, separator: str = ",") -> list[str]:
    """Split at separators that stand outside brackets and quotes."""
    parts, depth, quoted, start = [], 0, False, 0
    for position, letter in enumerate(text):
        if letter == "'":
            quoted = not quoted
        elif not quoted and letter in "([":
            depth += 1
        elif not quoted and letter in ")]":
            depth -= 1
        elif not quoted and depth == 0 and letter == separator:
            parts.append(text[start:position])
            start = position + 1
    return [part.strip() for part in (*parts, text[start:]) if part.strip()]


def _read_argument(text: str) -> Argument:
    words = text.split()
    mode = "INOUT " if words[0] == "inout" else ""
    declared, _, default = " ".join(words[1:] if mode else words).partition(" default ")
    name, _, type_ = declared.partition(" ")
    return Argument(name, type_, default or None, mode)


def _sources() -> Iterator[str]:
    for path in sorted(SQL.glob("*/*.sql")):
        yield path.read_text()


def read_routines() -> list[Routine]:
    """Return the public routines, in the order of their files.

    Raises: ValueError where one has no comment.
    """
    found = []
    for text in _sources():
        heads = re.finditer(
            r"^create or replace (function|procedure) dbml\.([a-z]\w*)\((.*?)\)\n"
            r"(?:returns (.*?)\n)?language",
            text, re.MULTILINE | re.DOTALL,
        )  # fmt: skip
        for kind, name, declared, returns in (head.groups() for head in heads):
            arguments = tuple(_read_argument(part) for part in _split(declared))
            types = r",\s+".join(re.escape(argument.type) for argument in arguments)
            comment = re.search(rf"^comment on {kind} dbml\.{name}\({types}\) is\s*'((?:[^']|'')*)';", text, re.MULTILINE)
            if not comment:
                raise ValueError(f"{kind} dbml.{name}({', '.join(a.type for a in arguments)}) must have a comment")
            found.append(Routine(kind, name, arguments, returns or "", comment[1].replace("''", "'")))
    return found


@dataclass(frozen=True)
class Entry:
    """A manual entry, taken apart."""

    summary: str
    text: str
    errors: tuple[str, ...]
    example: str | None


def read_entry(comment: str) -> Entry:
    """Take a comment apart: a summary, the text, `Errors: …; …`, `Example: …`."""
    summary, _, rest = comment.partition("\n")
    rest, _, example = rest.partition("\nExample: ")
    rest = "\n" + rest.lstrip("\n")
    text, _, said = rest.partition("\nErrors: ")
    parts = re.split(r";\s+", " ".join(said.split()).rstrip("."))
    return Entry(summary.strip(), text.strip(), tuple(part for part in parts if part), example.strip() or None)


def _link_errors(text: str) -> str:
    return re.sub(r"\b(ML\d{3})\b", lambda found: f"[{found[1]}](errors.md#{found[1].lower()})", text)


def _link_functions(text: str, names: set[str], own: str) -> str:
    return re.sub(
        r"\bdbml\.(\w+)(?!\w|\()",
        lambda found: f"[dbml.{found[1]}]({found[1]}.md)" if found[1] in names and found[1] != own else found[0],
        text,
    )


def function_page(name: str, routines: list[Routine], names: set[str]) -> str:
    """Return the page of one name, all its forms one after the other."""
    lines = [GENERATED, f"# dbml.{name}\n"]
    for number, routine in enumerate(routines, start=1):
        entry = read_entry(routine.comment)
        if len(routines) > 1:
            lines.append(f"## Form {number}: ({', '.join(f'{a.name} {a.type}' for a in routine.arguments)})\n")
        lines.append(f"{_link_functions(entry.summary, names, name)}\n")
        lines.append(f"```text\n{routine.signature()}\n```\n")
        if entry.text:
            lines.append(f"{_link_functions(entry.text, names, name)}\n")
        if routine.arguments:
            lines.append("| argument | type | default | meaning |\n|---|---|---|---|")
        for argument in routine.arguments:
            meaning = WORDS["arguments_of"].get(name, {}).get(argument.name) or WORDS["arguments"][argument.name]
            default = f"`{_default(argument.default)}`" if argument.default else "must be given"
            lines.append(f"| `{argument.name}` | {argument.type} | {default} | {_link_errors(meaning)} |")
        if routine.arguments:
            lines.append("")
        if entry.errors:
            lines.append("Errors:\n")
            lines += [f"- {_link_errors(_link_functions(error, names, name))}" for error in entry.errors]
            lines.append("")
        if entry.example:
            if re.search(r"demo[-.]", entry.example):
                lines.append(f"{DEMO_DATA}\n")
            lines.append(f"```sql\n{entry.example}\n```\n")
    return "\n".join(lines).rstrip() + "\n"


@dataclass(frozen=True)
class View:
    """One public view: its comment, its columns and their comments."""

    name: str
    comment: str
    columns: tuple[tuple[str, str, str], ...]


def read_views() -> list[View]:
    """Return the public views with (name, type, meaning) of each column."""
    found = []
    for text in _sources():
        for name, selected in re.findall(
            r"^create or replace view dbml\.([a-z]\w*) as\nselect (.*?)\nfrom ",
            text,
            re.MULTILINE | re.DOTALL,
        ):
            comment = re.search(rf"^comment on view dbml\.{name} is\s*'((?:[^']|'')*)';", text, re.MULTILINE)
            if not comment:
                raise ValueError(f"view dbml.{name} must have a comment")
            notes = rf"^comment on column dbml\.{name}\.(\w+) is\s*'((?:[^']|'')*)';"
            said = dict(re.findall(notes, text, re.MULTILINE))
            columns = []
            for item in _split(selected):
                column = re.split(r"\s+as\s+", item)[-1].split(".")[-1]
                type_, meaning = WORDS["columns_of"].get(name, {}).get(column) or WORDS["columns"][column]
                columns.append((column, type_, said.get(column, meaning).replace("''", "'")))
            found.append(View(name, comment[1].replace("''", "'"), tuple(columns)))
    return sorted(found, key=lambda view: view.name)


def views_page() -> str:
    """Return the page of the views."""
    lines = [
        GENERATED,
        "# Views\n",
        "What dbml knows, as relations. Everyone who holds `dbml_scripter` or `dbml_reader` may read them, and finds there"
        " what is in the workspaces that let it in; [grant access](../how-to/grant-access.md) says how.\n",
    ]
    for view in read_views():
        lines += [
            f"## dbml.{view.name}\n",
            f"{view.comment}\n",
            "| column | type | meaning |",
            "|---|---|---|",
        ]
        lines += [f"| `{name}` | {type_} | {meaning} |" for name, type_, meaning in view.columns]
        lines.append("")
    lines += [
        "For example, the last runs of an experiment with what they logged:\n",
        "```sql\nSELECT r.started_at, r.status, r.seconds, m.name, m.step, m.value\n"
        "FROM dbml.runs r LEFT JOIN dbml.metrics m USING (run_id)\n"
        "WHERE r.experiment = 'demo'\nORDER BY r.started_at DESC, m.name, m.step LIMIT 10;\n```",
    ]
    return "\n".join(lines) + "\n"


def _error_classes(cls: type[errors.DbmlError] = errors.DbmlError) -> Iterator[type[errors.DbmlError]]:
    yield cls
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _error_classes(child)


def errors_page() -> str:
    """Return the page of the errors."""
    tree = inspect.cleandoc(inspect.getdoc(errors) or "")
    drawn = textwrap.dedent("    " + tree[tree.index("DbmlError ") :]).rstrip()
    lines = [
        GENERATED,
        "# Errors\n",
        "Every error has a SQLSTATE of its own. MESSAGE states the rule, then the value. DETAIL, where there"
        " is one, is a JSON object for programs. HINT is a next command. CONTEXT of a failed script shows the"
        " script's own lines.\n",
        "psycopg raises them as the classes of `dbml.errors`, once `dbml.errors` is imported: no translation"
        " is needed. Other drivers show the SQLSTATE.\n",
        f"```text\n{drawn}\n```\n",
    ]
    for cls in _error_classes():
        if "sqlstate" not in vars(cls):
            continue
        lines += [
            f'<a id="{cls.sqlstate.lower()}"></a>\n',
            f"## {cls.sqlstate} {cls.__name__}\n",
            f"{' '.join((inspect.getdoc(cls) or '').split())}\n",
            f"{WORDS['errors'][cls.sqlstate]}\n",
        ]
    return "\n".join(lines).rstrip() + "\n"


def cli_page() -> str:
    """Return the page of the commands."""
    group = get_command(app)
    assert hasattr(group, "commands")
    lines = [
        GENERATED,
        "# The command line\n",
        f"{group.help}\n",
        "A command finds its database in this order: `--dsn`, the variable `DBML_DSN`, the `dbml up` that"
        " runs in this folder or a parent of it. An error is one line and a hint, exit code 1; with"
        " `DBML_DEBUG=1` there is a traceback too.\n",
        "| command | what it does |",
        "|---|---|",
    ]
    lines += [f"| [`dbml {name}`](#dbml-{name}) | {_first_sentence(command)} |" for name, command in group.commands.items()]
    for name, command in group.commands.items():
        within = getattr(command, "commands", {})
        alone = next((one for one in within.values() if one.hidden), command)  # what a group does without a command of its own
        lines += [f"\n## dbml {name}\n", *_command(alone)]
        for word, inner in within.items():
            if not inner.hidden:
                lines += [f"\n### dbml {name} {word}\n", *_command(inner)]
    return "\n".join(lines).rstrip() + "\n"


def _command(command: Any) -> list[str]:
    text, _, example = inspect.cleandoc(command.help or "").partition("\nExample: ")
    rows = [_option(option) for option in command.params if not option.hidden]
    table = ["| option | meaning |", "|---|---|", *rows, ""] if rows else []
    shown = " ".join(example.split()).replace(" --listen", " \\\n    --listen")
    return [f"{text.strip()}\n", *table, f"```bash\n{shown}\n```"]


def _first_sentence(command: Any) -> str:
    return re.split(r"(?<=[.])\s", " ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split()))[0]


def _option(option: Any) -> str:
    if option.param_type_name == "argument":
        return f"| `{option.name.upper()}` | {' '.join((option.help or '').split())} |"
    long = max(option.opts, key=len)
    names = ", ".join([long, *(name for name in option.opts if name != long)])
    value = "" if option.is_flag else f" {long.lstrip('-').replace('-', '_').upper()}"
    environment = f" Or the variable `{option.envvar}`." if option.envvar else ""
    default = f" Default: `{option.default}`." if isinstance(option.default, str) else ""
    return f"| `{names}{value}` | {' '.join((option.help or '').split())}{environment}{default} |"


def run_page() -> str:
    """Return the page of the object run."""
    lines = [GENERATED, WORDS["run_head"], "## Attributes\n", "| attribute | meaning |", "|---|---|"]
    members = [(name, member) for name, member in vars(Run).items() if not name.startswith("_")]
    for name, member in members:
        if isinstance(member, property):
            lines.append(f"| `run.{name}` | {(inspect.getdoc(member) or '').removeprefix('Return ').rstrip('.')} |")
    lines.append("\n## Methods")
    for name, member in members:
        if not isinstance(member, property):
            declared = inspect.signature(member)
            shown = [
                str(p.replace(annotation=p.empty)) if p.kind is not p.VAR_KEYWORD else f"**{p.name}"
                for p in list(declared.parameters.values())[1:]
            ]
            keywords = [p.kind is p.KEYWORD_ONLY for p in list(declared.parameters.values())[1:]]
            if any(keywords):
                shown.insert(keywords.index(True), "*")
            call = f"run.{name}({', '.join(shown)})"
            lines += [
                f"\n### run.{name}\n",
                f"```text\n{textwrap.fill(call, 100, subsequent_indent='    ')}\n```\n",
            ]
            lines.append(_link_errors(inspect.getdoc(member) or ""))
    return "\n".join(lines).rstrip() + "\n"


def pages() -> dict[str, str]:
    """Return every generated page by its file name."""
    by_name: dict[str, list[Routine]] = {}
    for routine in read_routines():
        by_name.setdefault(routine.name, []).append(routine)
    names = set(by_name)
    found = {f"{name}.md": function_page(name, routines, names) for name, routines in by_name.items()}
    rows = [f"| [dbml.{name}]({name}.md) | {read_entry(by_name[name][0].comment).summary} |" for name in sorted(names)]
    found["index.md"] = GENERATED + "\n" + "\n".join((WORDS["index_head"], *rows)) + "\n"
    found |= {
        "views.md": views_page(),
        "errors.md": errors_page(),
        "cli.md": cli_page(),
        "run.md": run_page(),
    }
    return found


def stale() -> list[str]:
    """Return the names of pages that are missing, differ, or describe nothing any more."""
    wanted = pages()
    kept = {path.name: path.read_text() for path in PAGES.glob("*.md")}
    left_over = [name for name, text in kept.items() if text.startswith(GENERATED) and name not in wanted]
    return sorted([name for name, text in wanted.items() if kept.get(name) != text] + left_over)


def main() -> None:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description="Write the generated pages of docs/reference.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 where a page differs")
    differing = stale()
    if parser.parse_args().check:
        for name in differing:
            print(f"docs/reference/{name} differs from its source")
        sys.exit(1 if differing else 0)
    wanted = pages()
    for name in differing:
        if name in wanted:
            (PAGES / name).write_text(wanted[name])
        else:
            (PAGES / name).unlink()
    print(f"{len(differing)} of {len(wanted)} pages written")


if __name__ == "__main__":
    main()

"""What runs the pages must notice when one is wrong."""

from __future__ import annotations

import pytest

from .blocks import afterwards, matches, read_blocks
from .shell import commands, complaint

PAGE = """
```sql
SELECT 1;
```

```text
 1
```

<!-- not run: reason -->
```bash
rm -rf /
```

words

```text
not an output
```
<!-- afterwards: DROP TABLE x; -->
"""


def test_blocks_are_found_with_their_outputs() -> None:
    blocks = read_blocks(PAGE)
    assert [(b.language, b.line, b.not_run, b.follows) for b in blocks] == [
        ("sql", 2, None, False),
        ("text", 6, None, True),
        ("bash", 11, "reason", False),
        ("text", 17, None, False),
    ]
    assert afterwards(PAGE) == ["DROP TABLE x;"]
    with pytest.raises(ValueError, match="line 2 must be closed"):
        read_blocks("\n```sql\nSELECT 1;\n")


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        (" x | y\n---+---\n 1 | 2\n", "  x  |  y \n-----+------\n   1 | 2\n\n", True),
        ("1 | 2", "1 | 3", False),
        ("a", "a\nb", False),
        ("a\n…", "a\nb\nc", True),
        ("a\n…\nd", "a\nd", True),
        ("a\n…\nd", "a\nb", False),
        ("took … ms", "took 12.5 ms", True),
        ("took … ms", "took 12.5 s", False),
        ("", "a", False),
    ],
)
def test_outputs_are_compared(expected: str, got: str, same: bool) -> None:
    assert matches(expected, got) is same


@pytest.mark.parametrize(
    "command",
    [
        "dbml nothing",
        "dbml up --unknown",
        "dbml --json",
        "frobnicate",
        "python -m benchmarks.nothing",
        "python nothing.py",
    ],
)
def test_a_command_that_is_not_there_is_noticed(command: str) -> None:
    assert any(complaint(words) for words in commands(command))


@pytest.mark.parametrize(
    "command",
    [
        "dbml up --detach; dbml psql -- -c 'select 1'",
        ".venv/bin/dbml status --json",
        "A=1 dbml worker \\\n  --listen a:1",
    ],
)
def test_a_command_that_is_there_passes(command: str) -> None:
    assert [complaint(words) for words in commands(command)].count(None) == len(list(commands(command)))

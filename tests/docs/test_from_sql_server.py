"""The table against sp_execute_external_script: each row names a test, and that test is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "from-sql-server.md"


def rows() -> list[list[str]]:
    """Return the rows of the page's tables, without their heads."""
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if not set(row[0]) <= set("-|") and row[-1] != "test"]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_each_row_is_held_by_a_test(row: list[str]) -> None:
    assert len(row) == 3, row
    file, _, name = row[2].strip("`").partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE), f"{row[2]} is not there"


def test_the_table_has_every_parameter() -> None:
    first = " ".join(row[0] for row in rows())
    for parameter in ("@language", "@script", "@input_data_1", "@input_data_1_name", "@input_data_1_order_by_columns",
                      "@input_data_1_partition_by_columns", "@output_data_1_name", "@parallel", "@params", "OUTPUT"):  # fmt: skip
        assert parameter in first

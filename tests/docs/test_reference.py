"""The generated pages are what the generator makes now, and say of the database what is true."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import psycopg
import pytest

from .blocks import ROOT


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs" / "generate_reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_what_the_generator_makes(generator: ModuleType) -> None:
    assert generator.stale() == [], "run python docs/generate_reference.py"


def test_no_word_is_explained_in_vain(generator: ModuleType) -> None:
    routines, views = generator.read_routines(), generator.read_views()
    used = {
        "arguments": {a.name for r in routines for a in r.arguments},
        "columns": {name for view in views for name, _, _ in view.columns},
        "errors": {cls.sqlstate for cls in generator._error_classes()},
    }
    for table, words in used.items():
        assert set(generator.WORDS[table]) == words
    for name, words in generator.WORDS["arguments_of"].items():
        assert set(words) <= {a.name for r in routines if r.name == name for a in r.arguments}


def test_every_public_function_has_a_page_that_is_its_manual_entry(generator: ModuleType, installed: str) -> None:
    with psycopg.connect(installed) as connection:
        there = connection.execute(
            "select proname, pg_get_function_arguments(p.oid), obj_description(p.oid, 'pg_proc')"
            " from pg_proc p where pronamespace = 'dbml'::regnamespace and proname !~ '^_'"
        ).fetchall()
    found = {(r.name, tuple(a.name for a in r.arguments)): r for r in generator.read_routines()}
    assert len(found) == len(there)
    for name, arguments, comment in there:
        names = tuple(
            part.split()[1 if part.startswith(("INOUT ", "IN ", "OUT ")) else 0] for part in generator._split(arguments)
        )
        assert found[name, names].comment == comment
        assert generator.read_entry(comment).example, f"dbml.{name} must have an example"


def test_the_views_have_the_columns_of_their_page(generator: ModuleType, installed: str) -> None:
    with psycopg.connect(installed) as connection:
        there = connection.execute(
            "select c.relname, a.attname, case when t.typtype = 'd' then format_type(t.typbasetype, null)"
            " else format_type(t.oid, null) end"
            " from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0"
            " join pg_type t on t.oid = a.atttypid"
            " where c.relnamespace = 'dbml'::regnamespace and c.relkind = 'v' and c.relname !~ '^_'"
            " order by c.relname, a.attnum"
        ).fetchall()
    assert there == [(view.name, name, type_) for view in generator.read_views() for name, type_, _ in view.columns]

"""A script that talks to the router by itself, past what its own process would have counted or refused."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from dbml import errors

FLOOD = """
body = ('{' + '1,' * 49999 + '1}').encode()
while True:
    run._say({'tag': 'frame', 'n': 50000, 'sizes': [len(body)]}, body)"""
LARGE = "run._say({'tag': 'artifact', 'name': 'x', 'kind': 'file', 'content_type': 'a/b', 'digest': '00' * 32, 'size': 1 << 40})"
MORE = """
import hashlib
head = {'name': 'x', 'kind': 'file', 'content_type': 'a/b', 'digest': hashlib.sha256(b'1234').hexdigest(), 'size': SIZE}
run._say({'tag': 'artifact', **head})
run._say({'tag': 'part'}, b'1234')
run._say({'tag': 'end', 'digest': head['digest']})"""
TAGS = "for n in range(2000): run.tag(str(n), 'x' * 1000)"
FRAME = "run._say({'tag': 'notice'}, b'x' * (17 << 20))"
HEAD = "run._say({'tag': 'tags', 'tags': {'a': 'x' * (65 << 20)}})"


@pytest.fixture
def pool(db: psycopg.Connection[Any]) -> Iterator[str]:
    """A pool whose scripts may have little."""
    name = f"pool-{uuid.uuid4().hex[:8]}"
    db.execute("select dbml.create_pool(%s, memory_mb => 512, output_mb => 1, scratch_mb => 16)", [name])
    yield name
    db.execute("select dbml.delete_pool(%s)", [name])


@pytest.mark.parametrize(
    ("script", "error", "said"),
    [
        (FLOOD, errors.LimitExceeded, "the result is larger than output_mb = 1 allows"),
        (LARGE, errors.LimitExceeded, "artifact 'x' is larger than memory_mb = 512 allows"),
        (MORE.replace("SIZE", "3"), errors.InvalidArgument, "must be as many as it said, 3"),
        (MORE.replace("SIZE", "5"), errors.InvalidArgument, "must be as many as it said, 5"),
        (TAGS, errors.LimitExceeded, "tags, properties and parameters of a run must have 1048576 characters at most"),
        (FRAME, errors.ScriptCrashed, "killed"),
        (HEAD, errors.ScriptCrashed, "killed"),
    ],
)
def test_the_router_counts_for_itself(
    db: psycopg.Connection[Any], pool: str, script: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        db.execute("select * from dbml.run_script(%s, pool => %s) as t(x int)", [script, pool])
    assert db.execute("select * from dbml.run_script('OutputDataSet = [1]') as t(x int)").fetchone() == (1,)

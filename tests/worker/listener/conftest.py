"""Listeners, and directories for their sockets."""

import shutil
import tempfile
from pathlib import Path

import pytest

from .listening import Served


@pytest.fixture
def served():
    made = Served(host="127.0.0.1")
    yield made
    made.stop()
    counts = made.counts
    assert (counts.connections, counts.unauthenticated, counts.running) == (0, 0, 0)
    assert made.answers.names().count("connected") == made.answers.names().count("disconnected")


@pytest.fixture
def directory():
    """A directory that a server's account can search, with a short path."""
    made = Path(tempfile.mkdtemp(prefix="dbml-listen-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)

"""What the lines mean that a scoring app prints."""

from __future__ import annotations

_READY = " answers at http"
_DRAINING = '"message": "draining: '
_COMPARED = '"logger":"dbml.serving.shadow"'
_OWN = '"dbml.serving"'
_TIME = slice(len('{"time":"'), len('{"time":"2026-01-01T00:00:00.000Z'))


def is_ready(line: str) -> bool:
    """Tell whether the app says that it listens."""
    return _READY in line and _OWN in line


def is_draining(line: str) -> bool:
    """Tell whether it says that it takes no new connections."""
    return _DRAINING in line and _OWN in line


def is_comparison(line: str) -> bool:
    """Tell whether it says how a candidate's answer compares; there are as many as requests."""
    return _COMPARED in line


def moment(line: str) -> str:
    """Return when a comparison was printed, as the app writes it: UTC, to be compared as text."""
    return line[_TIME]

"""Plans of exports, made from what the database holds: a registered model, or an image that was kept.

What asks the database is handed in, so that a client's connection, a runner's and the command line's will do:
`ask(function, ...)` calls a function of `dbml.store.client` with an open session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Ask = Callable[..., Any]
Say = Callable[[str], object]

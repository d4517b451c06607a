"""A part of the run of a script in the worker: what `child_run` and `create_children` return there.

Like the script's own run it speaks with the worker alone, and writes nothing to the database itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from dbml import errors
from dbml.core.run_context import ScriptRun
from dbml.core.run_details import AZURE_STATUS
from dbml.core.script_submission import SubmittedChild


class ScriptChild(ScriptRun):
    """A run that is a part of a script's run.

    Used in a `with` block it completes at the end, or fails with the exception that leaves it; one that is left open ends
    as the script does.
    """

    def __init__(self, parent: ScriptRun, run: Any, name: str | None) -> None:
        super().__init__(run, parent)
        self.name = self.display_name = name
        self._status = "running"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._status == "running":
            if error is None:
                self.complete()
            else:
                self.fail(error_details=f"{type(error).__name__}: {error}")

    @property
    def status(self) -> str:
        """Return Running, Completed, Failed or Canceled."""
        return self.get_status()

    def get_status(self) -> str:
        """Return Running, Completed, Failed or Canceled."""
        return AZURE_STATUS[self._status]

    def complete(self, _set_status: bool = True) -> None:
        """End it well.

        Raises: InvalidArgument where it has failed or was cancelled before.
        """
        self._end("completed")

    def fail(  # type: ignore[override]  # the script goes on
        self, error_details: Any = None, error_code: str | None = None, _set_status: bool = True
    ) -> None:
        """End it as failed, with an error for people; the script goes on."""
        self._end("failed", ": ".join(str(said) for said in (error_code, error_details) if said) or None)

    def cancel(self) -> None:
        """End it as cancelled; the script goes on."""
        self._end("canceled")

    def _end(self, status: str, error: str | None = None) -> None:
        if self._status not in ("running", status):
            raise errors.InvalidArgument(f"run {self.id} is {self._status}, and cannot become {status} any more")
        if self._status == "running":
            self._run.end_child(status, error)
            self._status = status


def begin(parent: ScriptRun, name: str | None = None, tags: Mapping[str, Any] | None = None) -> ScriptChild:
    """Begin a part of a script's run."""
    child = ScriptChild(parent, parent._run.begin_child(name, tags), name)
    child._tags |= tags or {}
    parent._children.append(child)
    return child


def begin_several(
    parent: ScriptRun, count: int | None, tag_key: str | None, tag_values: Sequence[str] | None
) -> list[ScriptChild]:  # fmt: skip
    """Begin parts by their number, or one for each value of a tag.

    Raises: InvalidArgument where neither or both are given.
    """
    if (count is None) == (tag_key is None or tag_values is None):
        raise errors.InvalidArgument("either count or tag_key and tag_values must be given")
    if tag_values is None:
        return [begin(parent) for _ in range(count or 0)]
    return [begin(parent, tags={str(tag_key): value}) for value in tag_values]


def matches(
    child: ScriptChild | SubmittedChild,
    tags: str | Mapping[str, str | None] | None,
    properties: Mapping[str, str | None] | None,
    status: str | None,
) -> bool:
    """Tell whether a run has these tags and properties, by name where the value is None, and this status."""
    wanted = {tags: None} if isinstance(tags, str) else tags or {}
    held = ((child._tags, wanted), (child._properties, properties or {}))
    return status in (None, child.get_status()) and all(
        name in found and value in (None, found[name]) for found, asked in held for name, value in asked.items()
    )

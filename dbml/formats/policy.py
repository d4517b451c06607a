"""Policy: what a workspace allows of its models, and whether a model's contents keep to it.

Pure: it takes names and gives names, so that the router can decide without reading a model's bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbml import errors
from dbml.formats.verdicts import DANGEROUS, HARMLESS, TRUSTED, UNTOLD, verdict_of

SHOWN = 10  # names in a message; the detail has all


@dataclass(frozen=True)
class Policy:
    """What a workspace allows beside what is harmless or trusted by itself.

    types: full names, 'package.module.Class', or 'package.*' for whatever is defined in a package, but for what is known to
    be dangerous; None where any pickle may be loaded.
    """

    types: tuple[str, ...] | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> Policy:
        """Read what SQL sends: {"types": [...] or null}, null without a policy."""
        types = None if given is None else given.get("types")
        return cls(None if types is None else tuple(types))

    def allows(self, module: str, name: str) -> bool:
        """Tell whether a name may be imported."""
        verdict = verdict_of(module, name)
        return verdict == HARMLESS or self.lists(module, name) or (
            verdict != DANGEROUS and "." not in name and self.covers(module)
        )  # fmt: skip

    def lists(self, module: str, name: str) -> bool:
        """Tell whether a full name is listed."""
        return f"{module}.{name}" in (self.types or ())

    def covers(self, module: str) -> bool:
        """Tell whether everything that is defined in a module is listed, as by 'package.*'."""
        return any(
            pattern.endswith(".*") and (module == pattern[:-2] or module.startswith(pattern[:-1])) for pattern in self.types or ()
        )

    def misfits(self, format: str, contents: Iterable[Mapping[str, Any]]) -> list[str]:  # noqa: A002 - the column's name
        """Return the full names, and remarks, of what is in a model and not allowed."""
        found = []
        for one in contents:
            module, name, verdict = one["module"], one["name"], one["verdict"]
            if module is None or name is None:
                if format == "pickle" and self.types is not None and verdict in (UNTOLD, DANGEROUS):
                    found.append(one["note"])
            elif format in ("safe", "onnx"):
                if verdict != TRUSTED and not (self.lists(module, name) or self.covers(module)):
                    found.append(f"{module}.{name}")
            elif self.types is not None and not self.allows(module, name):
                found.append(f"{module}.{name}")
        return sorted(set(found))

    def check(
        self,
        format: str,  # noqa: A002 - the column's name
        contents: Iterable[Mapping[str, Any]],
        model: str | None = None,
        workspace: str | None = None,
    ) -> None:  # fmt: skip
        """Refuse a model that holds what is not allowed.

        Raises: ModelRefused, which names it.
        """
        misfits = self.misfits(format, contents)
        if misfits:
            raise refusal(model, format, misfits, self, workspace)


def refusal(model: str | None, format: str, misfits: Sequence[str], policy: Policy, workspace: str | None) -> errors.ModelRefused:  # noqa: A002
    """Make the error that names what a model may not hold."""
    shown = ", ".join(misfits[:SHOWN]) + (f" and {len(misfits) - SHOWN} more" if len(misfits) > SHOWN else "")
    subject = "the model" if model is None else f'model "{model}"'
    if policy.types is None:
        rule = f"{subject} holds types that are not trusted"
    else:
        rule = f"{subject} holds what the workspace's policy does not allow"
    hint = "SELECT name, model_formats, model_types FROM dbml.workspaces"
    if len(misfits) <= SHOWN and workspace is not None and not any(_is_remark_or_dangerous(misfit) for misfit in misfits):
        listed = ", ".join(_literal(name) for name in (*(policy.types or ()), *misfits))
        hint = (
            "if you trust what these do when they are made: "
            f"SELECT dbml.set_model_policy({_literal(workspace)}, allowed_types => array[{listed}])"
        )
    detail = {"model": model, "format": format, "types": list(misfits[:1000])}
    return errors.ModelRefused(f"{rule}: {shown}", detail=detail, hint=hint)


def _is_remark_or_dangerous(misfit: str) -> bool:
    module, _, name = misfit.rpartition(".")
    return " " in misfit or verdict_of(module, name) == DANGEROUS


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

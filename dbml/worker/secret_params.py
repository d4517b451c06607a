"""Secret parameters: what a script sees plain, and nobody reads afterwards.

A parameter, or a part of one, that is {"$secret": value} is the value for the script.  The run's record has
{"$secret": true} in its place, and where the script prints or raises the value, three stars.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dbml import errors

MARK = "$secret"
SHORTEST = 6  # characters: a shorter one is part of too many innocent words
STARS = "***"
SHORTEST_PART = 3  # characters of a secret at the cut of a log


class Secrets:
    """The secrets of one call."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        """Take the parameters as they were given.

        Raises: errors.InvalidArgument for a secret that is neither text nor a number.
        """
        self._texts: list[str] = []
        self.plain: dict[str, Any] = {name: self._open(name, value) for name, value in params.items()}
        self.shown: dict[str, Any] = {name: _show(value) for name, value in params.items()}
        self._texts = sorted(set(self._texts), key=len, reverse=True)  # one may be part of another

    def mask(self, text: str) -> str:
        """Return a text with stars in place of secrets."""
        for secret in self._texts:
            text = text.replace(secret, STARS)
        return text

    def mask_tree(self, value: Any) -> Any:
        """Return what JSON can hold with stars in place of secrets, in names too."""
        if not self._texts:
            return value
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, list):
            return [self.mask_tree(item) for item in value]
        if isinstance(value, dict):
            return {self.mask(str(name)): self.mask_tree(item) for name, item in value.items()}
        return value

    def mask_cut(self, head: str, tail: str) -> tuple[str, str]:
        """Return the two ends of a text whose middle is left out, without what is left of a secret at the cut."""
        head, tail = self.mask(head), self.mask(tail)
        for secret in self._texts:
            parts = range(len(secret) - 1, SHORTEST_PART - 1, -1)
            head = next((head[:-n] + STARS for n in parts if head.endswith(secret[:n])), head)
            tail = next((STARS + tail[n:] for n in parts if tail.startswith(secret[-n:])), tail)
        return head, tail

    def mask_error(self, error: errors.DbmlError) -> errors.DbmlError:
        """Return an error without secrets."""
        if not self._texts:
            return error
        fields = error.fields()
        masked = {key: text if text is None or key == "sqlstate" else self.mask(text) for key, text in fields.items()}
        return error if masked == fields else errors.from_fields(masked)

    def hide(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return final values of parameters, but of those that were given as secrets only that they were."""
        return {name: self.shown[name] if _holds(self.shown.get(name)) else value for name, value in params.items()}

    def _open(self, name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [self._open(name, item) for item in value]
        if not isinstance(value, dict):
            return value
        if MARK not in value:
            return {key: self._open(f"{name}.{key}", item) for key, item in value.items()}
        secret = value[MARK]
        if len(value) > 1 or isinstance(secret, bool) or not isinstance(secret, str | int | float):
            raise errors.InvalidArgument(
                f'the secret "{name}" must be text or a number, alone in its object',
                detail={"parameter": name}, hint=json.dumps({name: {MARK: "..."}}),
            )  # fmt: skip
        text = str(secret)
        for written in (text, repr(text)[1:-1], json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
            if len(text) >= SHORTEST:
                self._texts.append(written)
        return secret


def _show(value: Any) -> Any:
    if isinstance(value, list):
        return [_show(item) for item in value]
    if isinstance(value, dict):
        return {MARK: True} if MARK in value else {key: _show(item) for key, item in value.items()}
    return value


def _holds(shown: Any) -> bool:
    if isinstance(shown, list):
        return any(map(_holds, shown))
    return isinstance(shown, dict) and (MARK in shown or any(map(_holds, shown.values())))

"""What a workspace holds of one kind, as a dictionary that is read when it is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Listing(Mapping[str, Item], Generic[Item]):
    """Items by name, read from the database once, at the first look; ask the workspace again for the present state."""

    def __init__(self, kind: str, read: Callable[[], dict[str, Item]]) -> None:
        self._kind = kind
        self._read = read
        self._items: dict[str, Item] | None = None

    def _all(self) -> dict[str, Item]:
        if self._items is None:
            self._items = self._read()
        return self._items

    def __getitem__(self, name: str) -> Item:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return f"<{self._kind}: {', '.join(self._all()) or 'none'}>"

"""What a workspace holds of one kind: a frame to look at, and each item by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import pandas as pd

Item = TypeVar("Item")


class Catalog(Generic[Item]):
    """Items of a workspace, as they are when it is asked: `catalog[name]` is one, `catalog.frame` shows all."""

    def __init__(
        self, frame: Callable[[], pd.DataFrame], find: Callable[[str], Item], names: Callable[[], list[str]]
    ) -> None:  # fmt: skip
        self._frame = frame
        self._find = find
        self._names = names

    @property
    def frame(self) -> pd.DataFrame:
        """Return them as a frame, the newest first."""
        return self._frame()

    def __getitem__(self, name: str) -> Item:
        return self._find(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __repr__(self) -> str:
        return repr(self.frame)

    def _repr_html_(self) -> str:
        return str(self.frame._repr_html_())

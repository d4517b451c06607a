"""What tabular and file datasets have in common: versions, tags, and steps on numbered rows or files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dbml.data.dataset_consumption_config import DatasetConsumptionConfig
from dbml.data.definition import DATABASE, Definition, require_count, require_seed, require_share, sources
from dbml.exceptions import UserErrorException
from dbml.store.client import datasets

if TYPE_CHECKING:
    from typing import Self

    from dbml.core.workspace import Workspace
    from dbml.store.client.rows import Row


class AbstractDataset(ABC):
    """Rows or files that are read when they are asked for; made by `Dataset.Tabular` and `Dataset.File`.

    Every method that changes what is in it returns another dataset.
    """

    def __init__(
        self, definition: Definition, workspace: Workspace | None, row: Row | None = None, pinned: tuple[int, str] | None = None
    ) -> None:
        self._definition = definition
        self._workspace_or_none = workspace
        self._row = row
        self._pinned = pinned

    def __repr__(self) -> str:
        named = f"{self.name!r}, version {self.version}" if self._row else f"not registered, of kind {self._definition.kind}"
        return f"{type(self).__name__}({named})"

    @property
    def _workspace(self) -> Workspace:
        if self._workspace_or_none is None:
            raise UserErrorException(
                "a dataset of local files must be registered to have a workspace", hint="dataset.register(…)"
            )
        return self._workspace_or_none

    @property
    def id(self) -> str | None:
        """Return the id of a registered version, None before it is registered."""
        return str(self._row["dataset_id"]) if self._row else None

    @property
    def name(self) -> str | None:
        """Return the name under which it is registered."""
        return self._row["name"] if self._row else None

    @property
    def version(self) -> int | None:
        """Return the version that it is registered as."""
        return self._row["version"] if self._row else None

    @property
    def description(self) -> str | None:
        """Return the sentence for people."""
        return self._row["description"] if self._row else None

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags."""
        return dict(self._row["tags"]) if self._row else {}

    @property
    def _reference(self) -> str:
        if self._row is None:
            raise UserErrorException("a dataset must be registered for that", hint="dataset.register(workspace, name)")
        return f"{self._row['name']}:{self._row['version']}"

    def _then(self, **step: Any) -> Self:
        return type(self)(self._definition.then(step), self._workspace_or_none, None, self._pinned)

    def take(self, count: int) -> Self:
        """Return its first rows or files."""
        return self._then(step="take", count=require_count(count))

    def skip(self, count: int) -> Self:
        """Return all but its first rows or files."""
        return self._then(step="skip", count=require_count(count))

    def take_sample(self, probability: float, seed: int | None = None) -> Self:
        """Return a sample in which each row or file is with that probability; the same for the same seed.

        Which it is depends on its number in the dataset and the seed alone, as for `random_split`.
        """
        return self._then(step="sample", probability=require_share("probability", probability), seed=require_seed(seed))

    def sample(self, probability: float, seed: int | None = None) -> Self:
        """Do what `take_sample` does."""
        return self.take_sample(probability, seed)

    def random_split(self, percentage: float, seed: int | None = None) -> tuple[Self, Self]:
        """Return two datasets: about that share (0 to 1) of the rows or files, and all others.

        A row's side depends on its number and the seed alone, so it is the same on every machine and however the data is
        read.  Without a seed one is drawn, and both sides keep it.  Rows of a query are numbered as they come: give it an
        ORDER BY; a table with a primary key is read in its order.
        """
        seed = require_seed(seed)
        share = require_share("percentage", percentage)
        first, rest = (self._then(step="split", percentage=share, seed=seed, part=part) for part in ("first", "rest"))
        return first, rest

    def as_named_input(self, name: str) -> DatasetConsumptionConfig:
        """Return it as an input of a run, which finds it as `run.input_datasets[name]`."""
        return DatasetConsumptionConfig(name, self)

    def register(
        self, workspace: Workspace, name: str, description: str | None = None, tags: Mapping[str, str] | None = None,
        create_new_version: bool = False,
    ) -> Self:  # fmt: skip
        """Register it, and return the registered version.

        The version keeps the bytes that the files of the default datastore have now.  The same definition again returns
        the version that is there.
        Raises: DatasetExists where the name has another definition, and create_new_version is False.
        """
        if self._workspace_or_none is not None and self._workspace_or_none != workspace:
            raise UserErrorException(
                f"the dataset's datastores are of workspace {self._workspace_or_none.name!r}, not {workspace.name!r}"
            )
        held = [] if self._definition.kind in ("table", "query") else sources(self._definition, workspace, self._pinned)
        version = workspace._connection.do(
            datasets.register, workspace.name, name, self._definition.kind, self._definition.to_json(),
            schema=self._columns(), description=description, tags=dict(tags or {}), create_new_version=create_new_version,
            files_of=self._pinned[1] if self._pinned and held else None,
            files=[one.path for one in held if one.datastore is not None and one.datastore.name == DATABASE],
        )  # fmt: skip
        (row,) = workspace._connection.do_again(datasets.list_all, workspace.name, name=name, version=version)
        return self._of(workspace, row)

    @classmethod
    def _of(cls, workspace: Workspace, row: Row) -> Self:
        definition = Definition.from_json(row["kind"], row["definition"])
        return cls(definition, workspace, row, (row["dataset_id"], f"{row['name']}:{row['version']}"))

    def _only_file(self) -> str | None:
        """Return the name of its file, where it is of one file and of no folder."""
        return None

    @abstractmethod
    def _columns(self) -> list[dict[str, str]] | None:
        """Return names and types of its columns, where they can be had at little cost."""

    def update(self, description: str | None = None, tags: Mapping[str, str] | None = None) -> Self:
        """Describe the registered version, and give it tags in place of the former; returns it."""
        self._workspace._connection.do(
            datasets.update, self._workspace.name, self._reference, description=description, tags=tags
        )  # fmt: skip
        assert self._row is not None
        self._row = {
            **self._row, **({"description": description} if description is not None else {}),
            **({"tags": dict(tags)} if tags is not None else {}),
        }  # fmt: skip
        return self

    def add_tags(self, tags: Mapping[str, str]) -> Self:
        """Set tags of the registered version; returns it."""
        return self.update(tags={**self.tags, **tags})

    def remove_tags(self, tags: list[str]) -> Self:
        """Take tags off the registered version; returns it."""
        return self.update(tags={name: value for name, value in self.tags.items() if name not in tags})

    def unregister_all_versions(self) -> None:
        """Delete all versions of that name; what they were made of stays."""
        self._workspace._connection.do(self._forget_all)

    def _forget_all(self, connection: Any) -> None:
        name = self._reference.rpartition(":")[0]
        with connection.transaction():
            for row in datasets.list_all(connection, self._workspace.name, name=name):
                datasets.delete(connection, self._workspace.name, f"{name}:{row['version']}")

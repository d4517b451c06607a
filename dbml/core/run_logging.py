"""What a run can log, the same for one that is kept and for one that only prints."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from dbml.core import metric_values
from dbml.store.client.rows import Row


class RunLogging(ABC):
    """The methods that log; what becomes of the values is the class's to say."""

    @abstractmethod
    def _take(self, what: str, name: str, rows: list[Row], value: Any) -> None:
        """Take values: what they are in words, their name, as the database keeps them, and as they were given."""

    @abstractmethod
    def _picture(self, name: str, path: str | None, plot: Any) -> str:
        """Take a picture; returns the name under which it is kept."""

    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        """Log a number, true, false or text; the same name again makes it a series.

        Raises: InvalidArgument for another kind of value.
        """
        self._take("scalar metric", name, [metric_values.scalar(name, value, step=step)], value)

    def log_list(self, name: str, value: Iterable[Any], description: str = "") -> None:
        """Log a list of values, in order.

        Raises: InvalidArgument for an empty one, or an element that `log` would not take.
        """
        values = list(value)
        self._take("list of metrics", name, metric_values.items(name, values), values)

    def log_row(self, name: str, description: str | None = None, **columns: Any) -> None:
        """Log values by column; the same name again is the next row of a table."""
        self._take("row metric", name, [metric_values.whole(name, "row", columns)], columns)

    def log_table(self, name: str, value: Mapping[str, Any], description: str = "") -> None:
        """Log a table: {"column": [values]}, or a frame."""
        self._take("table metric", name, [metric_values.whole(name, "table", value)], value)

    def log_image(self, name: str, path: str | None = None, plot: Any = None, description: str = "") -> None:
        """Keep a picture with the run: a file, or a matplotlib figure (or pyplot) as PNG.

        The same name again keeps both.
        Raises: InvalidArgument where there is neither or both.
        """
        kept = self._picture(name, path, plot)
        self._take("image", name, [metric_values.whole(name, "image", kept)], kept)

    def log_confusion_matrix(self, name: str, value: Any, description: str = "") -> None:
        """Log a confusion matrix, a mapping or JSON text."""
        self.log_table(name, _mapping(value))

    def log_accuracy_table(self, name: str, value: Any, description: str = "") -> None:
        """Log an accuracy table, a mapping or JSON text."""
        self.log_table(name, _mapping(value))

    def log_predictions(self, name: str, value: Any, description: str = "") -> None:
        """Log predictions, a mapping or JSON text."""
        self.log_table(name, _mapping(value))

    def log_residuals(self, name: str, value: Any, description: str = "") -> None:
        """Log residuals, a mapping or JSON text."""
        self.log_table(name, _mapping(value))


def _mapping(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value

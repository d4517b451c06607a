"""A run as it goes, shown where one is: a table that changes in a notebook, text in a terminal."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from dbml.core.run_details import ENDED, html, short

if TYPE_CHECKING:
    from dbml.core.run import Run

__all__ = ["RunDetails"]

REFRESH_S = 2.0


class RunDetails:
    """Shows a run: its state, metrics and files.

    In a notebook `show` draws a table and keeps it up to date, in the background, until the run ends.  Elsewhere it prints
    how the run stands now.
    """

    def __init__(self, run_instance: Run) -> None:
        self.run = run_instance
        self._watcher: threading.Thread | None = None

    def show(self, render_lib: Any = None, widget_settings: Any = None) -> None:
        """Show the run."""
        display = _notebook_display()
        if display is None:
            self._print()
            return
        handle = display(_Html(self._html()), display_id=True)
        if self.run.get_status() in ENDED or handle is None:
            return
        self._watcher = threading.Thread(target=self._watch, args=(handle,), name="dbml run details", daemon=True)
        self._watcher.start()

    def get_widget_data(self, widget_settings: Any = None) -> dict[str, Any]:
        """Return what is shown: details, metrics and the names of files."""
        return {
            "status": self.run.get_status(),
            "run_properties": self.run.get_details(),
            "run_metrics": self.run.get_metrics(),
            "run_files": self.run.get_file_names(),
        }

    def _repr_html_(self) -> str:
        return self._html()

    def _html(self) -> str:
        return html(self.run._read(), self.run.get_metrics())

    def _watch(self, handle: Any) -> None:
        over = threading.Event()
        while not over.wait(REFRESH_S):
            ended = self.run.get_status() in ENDED
            handle.update(_Html(self._html()))
            if ended:
                return

    def _print(self) -> None:
        from rich.console import Console
        from rich.table import Table

        data = self.get_widget_data()
        details = data["run_properties"]
        table = Table(title=f"{self.run._row['experiment']}  {self.run.id}", show_header=False, title_justify="left")
        for name in ("status", "target", "startTimeUtc", "endTimeUtc"):
            if name in details:
                table.add_row(name, str(details[name]))
        if "error" in details:
            table.add_row("error", details["error"]["error"]["message"])
        for name, value in details["parameters"].items():
            table.add_row(f"parameter {name}", short(value))
        for name, value in data["run_metrics"].items():
            table.add_row(f"metric {name}", short(value))
        for name in data["run_files"]:
            table.add_row("file", name)
        Console(file=sys.stdout).print(table)


class _Html:
    """Text that a notebook draws."""

    def __init__(self, text: str) -> None:
        self._text = text

    def _repr_html_(self) -> str:
        return self._text


def _notebook_display() -> Any:
    """Return IPython's display where a notebook shows what it is given, None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or type(shell).__name__ == "TerminalInteractiveShell":
        return None
    from IPython.display import display

    return display

"""Datasets as inputs of submitted scripts, and what they write for a datastore.

A registered table or query is read by the database when the run begins.  All other datasets are of files, or have steps that
Python takes: their files or rows are read when the script is submitted, by who submits it, and go along with the snapshot in
a folder of its own.  A replay so has the very same rows.  The script's side, which finds them again, is in
dbml.core.run_context.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbml.core.snapshot import INPUTS, MANIFEST
from dbml.exceptions import UserErrorException

if TYPE_CHECKING:
    from dbml.data.data_reference import DataReference
    from dbml.data.dataset_consumption_config import DatasetConsumptionConfig
    from dbml.data.output_dataset_config import OutputDatasetConfig


class Inputs:
    """The inputs of a script that is submitted, as its arguments name them.

    outputs: as dbml.submit_run has them.  queries: those that the database reads.  links: the registered datasets of the
    others, by input.  variables: of the environment, AZUREML_DATAREFERENCE_NAME for a folder.
    """

    def __init__(self, queries: dict[str, Any]) -> None:
        self.queries = queries
        self.links: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self.variables: dict[str, str] = {}
        self._carried: dict[str, Any] = {}  # DatasetConsumptionConfig or DataReference
        self._told: dict[str, dict[str, Any]] = {}

    def argument(self, value: Any) -> str | None:
        """Take an argument that is an input, and return the text that the script gets for it; None for any other argument.

        That is a folder for files, relative to the script's working directory, and name:version or the input's name for rows.
        """
        if hasattr(value, "as_named_input"):  # a dataset; its class is not imported for that
            value = value.as_named_input(self._free_name())
        if hasattr(value, "as_download") and hasattr(value, "dataset"):
            return self._dataset(value)
        if hasattr(value, "as_download") and hasattr(value, "path_on_datastore"):
            return self._upload(value) if value.mode == "upload" else self._folder(value)
        if hasattr(value, "register_on_complete"):
            return self._output(value.name, value)
        return None

    def _output(self, name: str | None, given: OutputDatasetConfig) -> str:
        """Take an output; returns the folder that it is written to."""
        if name is None:
            name = next(n for number in range(len(self.outputs) + 1) if (n := f"output_{number}") not in self.outputs)
        if name in self.outputs or name in self._told or name in self.queries:
            raise UserErrorException(
                f"an output must have a name of its own, {name!r} is there twice", hint="OutputFileDatasetConfig(name=…)"
            )
        self.outputs[name] = given._asked(name)
        folder = str(self.outputs[name]["folder"])
        if name.isidentifier():
            self.variables[f"AZUREML_DATAREFERENCE_{name}"] = folder
        return folder

    def _upload(self, given: DataReference) -> str:
        """Take a place in a datastore to which the script's files go."""
        from dbml.data.output_dataset_config import OutputFileDatasetConfig

        output = OutputFileDatasetConfig(
            given.data_reference_name, (given.datastore, given.path_on_datastore), given.path_on_compute
        )  # fmt: skip
        return self._output(given.data_reference_name, output.as_upload(overwrite=given.overwrite))

    def _free_name(self) -> str:
        taken = {*self.queries, *self._told}
        return next(name for number in range(len(taken) + 1) if (name := f"input_{number}") not in taken)

    def _dataset(self, given: DatasetConsumptionConfig) -> str:
        dataset = given.dataset
        reference = f"{dataset.name}:{dataset.version}" if dataset.name is not None else None
        in_sql = reference and dataset._definition.kind in ("table", "query") and not dataset._definition.steps
        if in_sql and given.mode == "direct":
            self._tell(given.name, kind="query", dataset=reference)
            self.queries[given.name] = {"dataset": reference}
            return str(reference)
        is_files = dataset._definition.kind == "file"
        if given.mode != "direct" and not is_files:
            raise UserErrorException(
                f"the dataset {given.name!r} has rows, and only files can be mounted or downloaded",
                hint="as_named_input(name) alone: the script has run.input_datasets[name].to_pandas_dataframe()",
            )
        path = f"{INPUTS}/{given.name}" if is_files else f"{INPUTS}/{given.name}.parquet"
        kind = "rows" if not is_files else "files" if given.mode == "direct" else "folder"
        self._tell(given.name, kind=kind, dataset=reference, path=path)
        self._carried[given.name] = given
        if reference is not None:
            self.links[given.name] = dataset
        if kind == "folder":
            alone = dataset._only_file()
            place = path if alone is None else f"{path}/{alone}"
            self._told[given.name]["file"] = alone
            self.variables[f"AZUREML_DATAREFERENCE_{given.name}"] = place
            return place
        return reference or given.name

    def _folder(self, given: DataReference) -> str:
        name = given.data_reference_name
        number = sum(one == name or one.startswith(f"{name}_") for one in self._told)
        name = f"{name}_{number}" if number else name
        path = "/".join(part for part in (INPUTS, name, given.path_on_datastore) if part)
        self._tell(name, kind="folder", dataset=None, path=path)
        self._carried[name] = given
        self.variables[f"AZUREML_DATAREFERENCE_{name}"] = path
        return path

    def _tell(self, name: str, **about: Any) -> None:
        if name in self._told or name in self.queries:
            raise UserErrorException(
                f"an input must have a name of its own, {name!r} is there twice", hint="as_named_input(name)"
            )
        self._told[name] = about

    @property
    def has_datasets(self) -> bool:
        """Tell whether there is any input."""
        return bool(self._told or self.queries)

    def write(self, folder: Path) -> dict[str, Path]:
        """Write what goes along into a folder; returns the files by their paths in the snapshot."""
        if not self._told:
            return {}
        for name, given in self._carried.items():
            about = self._told[name]
            place = folder / about["path"]
            place.parent.mkdir(parents=True, exist_ok=True)
            if about["kind"] == "rows":
                _write_rows(given.dataset, place)
            elif hasattr(given, "dataset"):
                given.dataset.download(place)
            else:
                given.datastore.download(folder / INPUTS / name, given.path_on_datastore, show_progress=False)  # below its path
        (folder / INPUTS).mkdir(exist_ok=True)
        (folder / MANIFEST).write_text(json.dumps(self._told, ensure_ascii=False, sort_keys=True), "utf-8")
        return {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}


def _write_rows(dataset: Any, place: Path) -> None:
    from pyarrow import parquet

    parquet.write_table(dataset.to_arrow(), place)

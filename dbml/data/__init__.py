"""Datasets and datastores: what is behind `dbml.core.Dataset` and `dbml.core.Datastore`, and the types they take.

Modules that notebooks import: dataset_factory, dataset_type_definitions, dataset_consumption_config, data_reference,
output_dataset_config, datapath, tabular_dataset, file_dataset, azure_storage_datastore.  It reads files and tables as the
user, and imports neither the worker nor scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbml.data.data_type import DataType
    from dbml.data.dataset_consumption_config import DatasetConsumptionConfig
    from dbml.data.file_dataset import FileDataset
    from dbml.data.output_dataset_config import OutputFileDatasetConfig
    from dbml.data.tabular_dataset import TabularDataset

# Where each public name lives; pandas comes with them, and not before.
_PLACES = {
    "DataType": "dbml.data.data_type",
    "DatasetConsumptionConfig": "dbml.data.dataset_consumption_config",
    "FileDataset": "dbml.data.file_dataset",
    "OutputFileDatasetConfig": "dbml.data.output_dataset_config",
    "TabularDataset": "dbml.data.tabular_dataset",
}

__all__ = ["DataType", "DatasetConsumptionConfig", "FileDataset", "OutputFileDatasetConfig", "TabularDataset"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        found = getattr(import_module(_PLACES[name]), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

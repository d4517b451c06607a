"""Datasets and datastores: what is behind `dbml.core.Dataset` and `dbml.core.Datastore`, and the types they take.

Modules that notebooks import: dataset_factory, dataset_type_definitions, dataset_consumption_config, data_reference,
datapath, tabular_dataset, file_dataset, azure_storage_datastore.  It reads files and tables as the user, and imports
neither the worker nor scikit-learn.
"""

from __future__ import annotations

from dbml.data.data_type import DataType
from dbml.data.dataset_consumption_config import DatasetConsumptionConfig
from dbml.data.file_dataset import FileDataset
from dbml.data.tabular_dataset import TabularDataset

__all__ = ["DataType", "DatasetConsumptionConfig", "FileDataset", "TabularDataset"]

"""Steps of pipelines are not there; their names say what is."""

from __future__ import annotations

from dbml.core.absent import absent

_NAMES = """AdlaStep AutoMLStep AzureBatchStep CommandStep DatabricksStep DataTransferStep EstimatorStep HyperDriveStep
    HyperDriveStepRun ModuleStep MpiStep ParallelRunConfig ParallelRunStep PythonScriptStep RScriptStep SynapseSparkStep"""
_INSTEAD = (
    "runs one after the other in a program: Experiment.submit of a ScriptRunConfig, wait_for_completion; dbml.predict_into scores"
    " a table"
)

globals().update(absent(__name__, _NAMES, _INSTEAD))

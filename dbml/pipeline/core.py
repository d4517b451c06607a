"""Pipelines are not there; their names say what is."""

from __future__ import annotations

from dbml.core.absent import absent

_NAMES = """Pipeline PipelineData PipelineEndpoint PipelineParameter PipelineRun PublishedPipeline Schedule ScheduleRecurrence
    StepRun StepSequence TrainingOutput OutputPortBinding PortDataReference"""
_INSTEAD = (
    "runs one after the other in a program: Experiment.submit, wait_for_completion, and OutputFileDatasetConfig from one to the"
    " next; cron runs it"
)

globals().update(absent(__name__, _NAMES, _INSTEAD))

"""Pipelines are not there: `core` and `steps` have their names, which say what is."""

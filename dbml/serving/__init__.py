"""Serving: the scoring app, and what brings a registered model to where it runs.

`dbml.serving.app` travels into images and imports nothing else of dbml, nor a database's client.
"""

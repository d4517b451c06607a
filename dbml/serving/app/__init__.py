"""The scoring app: one process that answers HTTP for the models of one service, wherever it runs.

A service is a folder with a `service.json` (`manifest.py`), models and their score.py files.  A request goes

    server -> front (ids, keys, sizes, queue, metrics) -> a dialect -> scoring (score.py) -> the dialect -> back

and three dialects speak for the same scorers: azureml's, MLflow's, and the Open Inference Protocol.  This package is
copied into images as it is: it imports no other part of dbml, and no database's client.
"""

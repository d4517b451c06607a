"""The small client: scripts, predictions, models and runs of one workspace, with frames in and out.

    import dbml

    with dbml.connect() as db:
        db.run_script("OutputDataSet = InputDataSet.describe()", "SELECT * FROM measurements")
        db.predict("churn@champion", "SELECT * FROM customers")

It says what `dbml.core` says, in fewer words; both see the same workspaces, runs and models.
"""

from dbml.client.catalog import Catalog
from dbml.client.client import Client

__all__ = ["Catalog", "Client"]

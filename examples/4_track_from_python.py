"""Predict and log a run by the small client, after 2_train_and_predict.sql; DBML_DSN names the database."""

import dbml

db = dbml.connect()  # DBML_DSN, or the `dbml up` of this folder
scored = db.predict("progression", "SELECT patient, bmi, bp, s5 FROM demo.diabetes")
with db.start_run("readme") as run:
    run.log("rows", len(scored))
print(scored.shape, round(scored.prediction.mean()))

"""Score a query from pandas, after 2_train_and_predict.sql; DBML_DSN names the database."""

import os

import pandas
import psycopg
from sqlalchemy import create_engine

engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(os.environ["DBML_DSN"]))
scored = pandas.read_sql(
    """SELECT * FROM dbml.predict('progression', 'SELECT patient, bmi, bp, s5 FROM demo.diabetes')
       AS t(patient int, bmi float8, bp float8, s5 float8, prediction float8)""",
    engine,
)
print(scored.shape)

"""`dbml demo`: one command shows training and scoring, and leaves something to go on with."""

from __future__ import annotations

import re

from dbml.cli.demo import STEPS


def test_it_trains_scores_and_can_be_repeated(project, dbml):
    first = dbml(project, "demo")
    for step in STEPS:
        assert step.title in first
    assert "demo.diabetes_scored" in first
    assert re.search(r"virginica +virginica +\d+", first)
    assert re.search(r"NOTICE: +classes: setosa, versicolor, virginica", first)
    assert re.search(r"r2 +0\.\d+", first)
    assert first.rstrip().endswith(" psql")
    assert "Traceback" not in first
    second = dbml(project, "demo")
    assert re.search(r"demo-diabetes +2 ", second)


def test_what_it_scored_is_what_the_model_says(project, dbml):
    dbml(project, "demo")
    statement = (
        "select count(*), count(distinct patient), round(corr(progression, prediction)::numeric, 1) from demo.diabetes_scored"
    )
    assert dbml(project, "psql", "--", "-Atc", statement) == "442|442|0.7\n"

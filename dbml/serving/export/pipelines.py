"""A pipeline that keeps a model good: it trains, compares, registers what is better, packages and deploys it.

Each step is a shell script of plain `dbml` commands, so that the pipeline runs step by step anywhere, and what GitHub or Azure
Pipelines get is a list of them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_OTHER = re.compile(r"[^a-z0-9.-]+")
STEPS = ("train", "compare", "register", "package", "deploy")

_TRAIN = '''"""Train a model of the champion's kind on what the query gives, and measure both on rows that were held out.

A quarter of the rows, chosen by their content and the same each time, is held out. `score` is the new model's and
`champion_score` the champion's, by the estimator's own score: accuracy, or R2. Change what you like: the steps after this
one want these two metrics, the file {file}, and a row with run_id.
"""

import pickle

import pandas as pd
from sklearn.base import clone

FEATURES = {features!r}
LABEL = {label!r}

rows = InputDataSet.dropna(subset=[LABEL])
held_out = pd.util.hash_pandas_object(rows[[*FEATURES, LABEL]], index=False) % 4 == 0
trained_on, measured_on = rows[~held_out], rows[held_out]

champion = run.load_model({champion!r})
challenger = clone(champion).fit(trained_on[FEATURES], trained_on[LABEL])


def score(model):
    features = measured_on[FEATURES]
    return model.score(features if hasattr(model, "feature_names_in_") else features.to_numpy(), measured_on[LABEL])


run.log("rows", len(trained_on))
run.log("score", score(challenger))
run.log("champion_score", score(champion))
with open({file!r}, "wb") as file:
    pickle.dump(challenger, file)
run.upload_file({file!r}, {file!r})
OutputDataSet = {{"run_id": [str(run.id)]}}
'''

_COMMANDS = {
    "train": """\
mkdir -p build
dbml run {folder}/train.py --input "$(cat {folder}/query.sql)" --experiment {experiment} {workspace}--output build/run.csv
""",
    "compare": """\
dbml models compare --run build/run.csv --metric score --than champion_score {workspace}--output build/better
""",
    "register": """\
rm -f build/model
test -s build/better || exit 0
dbml models register {model} --run build/run.csv --alias {alias} {workspace}--output build/model
""",
    "package": """\
test -s build/model || exit 0
dbml export "$(cat build/model)" --name {service} {environment}{workspace}--to build/image
""",
    "deploy": """\
test -s build/model || exit 0
dbml deploy "$(cat build/model)" --service {service} {workspace}--update --no-serve
""",
}
_SAID = {
    "train": "Train next to the data, and measure the new model and the champion on the same rows.",
    "compare": "Say whether the new one is better.",
    "register": "Register it, if it is better, and make it the champion.",
    "package": "Write the folder that docker build takes; it is kept in dbml.images too.",
    "deploy": "Let the service serve it, without a request that fails; a machine with dbml services serve runs it.",
}


@dataclass(frozen=True)
class Pipeline:
    """What a pipeline is of.

    model: the model's name.  features, label: columns of the query.  alias: which version is the champion; champion: what is
    retrained and compared with, name@alias or name.  dbml: the version of dbml that the steps are run by.  environment: of the
    package, where not the model's own or one that the worker resolves.
    """

    model: str
    champion: str
    features: Sequence[str]
    label: str
    query: str
    service: str
    dbml: str
    alias: str = "champion"
    workspace: str | None = None
    environment: str | None = None
    schedule: str = "0 5 * * 1"

    @property
    def slug(self) -> str:
        """Return the name as files and jobs have it."""
        return _OTHER.sub("-", self.model.lower()).strip("-.") or "model"

    @property
    def folder(self) -> str:
        """Return where the steps are, from the repository's root."""
        return f"pipelines/{self.slug}"


def files(pipeline: Pipeline) -> dict[str, str]:
    """Return what every kind of pipeline has: train.py, the query, and a script for each step, by path."""
    told = {
        "folder": pipeline.folder, "experiment": shlex.quote(f"{pipeline.slug}-pipeline"), "model": shlex.quote(pipeline.model),
        "alias": shlex.quote(pipeline.alias), "service": shlex.quote(pipeline.service),
        "environment": f"--environment {shlex.quote(pipeline.environment)} " if pipeline.environment else "",
        "workspace": f"--workspace {shlex.quote(pipeline.workspace)} " if pipeline.workspace else "",
    }  # fmt: skip
    train = _TRAIN.format(
        features=list(pipeline.features), label=pipeline.label, champion=pipeline.champion, file="model.pkl"
    )  # fmt: skip
    found = {f"{pipeline.folder}/train.py": train, f"{pipeline.folder}/query.sql": pipeline.query.strip() + "\n"}
    for at, step in enumerate(STEPS, start=1):
        text = f"#!/bin/sh\n# {_SAID[step]}\n# Run from the repository's root, with DBML_DSN set.\nset -eu\n"
        found[f"{pipeline.folder}/{at}-{step}.sh"] = text + _COMMANDS[step].format(**told)
    return found


def github(pipeline: Pipeline) -> dict[str, str]:
    """Return the files of a GitHub workflow; the secret DBML_DSN tells the database."""
    steps: list[dict[str, Any]] = [
        {"uses": "actions/checkout@v4"}, {"uses": "actions/setup-python@v5", "with": {"python-version": "3.12"}},
        {"name": "install dbml", "run": _install(pipeline)},
        *({"name": name, "run": command} for name, command in _calls(pipeline)),
        {"uses": "actions/upload-artifact@v4", "with": {"name": pipeline.slug, "path": "build", "if-no-files-found": "ignore"}},
    ]  # fmt: skip
    job = {"runs-on": "ubuntu-latest", "timeout-minutes": 60, "env": {"DBML_DSN": "${{ secrets.DBML_DSN }}"}, "steps": steps}
    workflow = {
        "name": f"{pipeline.model}: train and deploy",
        "on": {
            "workflow_dispatch": {}, "schedule": [{"cron": pipeline.schedule}],
            "push": {"branches": ["main"], "paths": [f"{pipeline.folder}/**"]},
        },
        "permissions": {"contents": "read"}, "concurrency": {"group": pipeline.slug}, "jobs": {"train-and-deploy": job},
    }  # fmt: skip
    return {**files(pipeline), f".github/workflows/{pipeline.slug}.yml": _dump(workflow)}


def azure(pipeline: Pipeline) -> dict[str, str]:
    """Return the files of an Azure pipeline; the secret variable DBML_DSN tells the database."""
    steps: list[dict[str, Any]] = [
        {"task": "UsePythonVersion@0", "inputs": {"versionSpec": "3.12"}},
        {"script": _install(pipeline), "displayName": "install dbml"},
        *({"script": command, "displayName": name, "env": {"DBML_DSN": "$(DBML_DSN)"}} for name, command in _calls(pipeline)),
        {"task": "PublishPipelineArtifact@1", "inputs": {"targetPath": "build", "artifact": pipeline.slug}},
    ]
    told = {
        "trigger": {"branches": {"include": ["main"]}, "paths": {"include": [pipeline.folder]}},
        "schedules": [
            {"cron": pipeline.schedule, "displayName": "retrain", "branches": {"include": ["main"]}, "always": "true"}
        ],
        "pool": {"vmImage": "ubuntu-latest"}, "steps": steps,
    }  # fmt: skip
    return {**files(pipeline), "azure-pipelines.yml": _dump(told)}


def write(found: Mapping[str, str], folder: Path) -> list[Path]:
    """Write a pipeline's files into a repository; returns their paths.

    Raises: FileExistsError where one is there with another content.
    """
    written = []
    for path, text in found.items():
        target = folder / path
        if target.exists() and target.read_text(encoding="utf-8") != text:
            raise FileExistsError(f"{target} must not be there with another content")
        written.append(target)
    for target, text in zip(written, found.values(), strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        if target.suffix == ".sh":
            target.chmod(0o755)
    return written


def _calls(pipeline: Pipeline) -> list[tuple[str, str]]:
    return [(step, f"sh {pipeline.folder}/{at}-{step}.sh") for at, step in enumerate(STEPS, start=1)]


def _install(pipeline: Pipeline) -> str:
    return f"pip install 'dbml[worker,serving,export]=={pipeline.dbml}'"


def _dump(value: Any) -> str:
    head = "# Made by dbml. The steps are plain shell scripts: run them here, one after the other.\n"
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)
    return head + text.replace("'on':", "on:")

"""The target `kubernetes` against a program that answers as kubectl does: what is applied, when it is ready, how it ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dbml.serving.export.plan import File, Plan
from dbml.serving.runner.clusters import Clusters
from dbml.serving.runner.contract import Machine, NotHere, Service
from dbml.serving.runner.log import Tail

KUBECTL = """#!/bin/sh
cd {folder}
echo "$@" >> said
case "$1" in
    get) if [ -f deployment ]; then cat deployment; else echo 'Error from server (NotFound): deployments.apps not found' >&2; exit 1; fi ;;
    apply) if [ -f deployment ]; then echo deployment.apps/m configured; else echo 'The connection was refused' >&2; exit 1; fi ;;
esac
"""


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_deployment_from_its_manifests_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "kubectl"
    program.write_text(KUBECTL.format(folder=tmp_path))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.setattr("dbml.serving.runner.clusters.LOOK_S", 0.05)
    tail = Tail()
    service = Service("here/db", "default", "m", "today", tmp_path, tail, tail.add)
    target = Clusters(service, Machine(tmp_path / "cache"))
    target.listen("127.0.0.1", 0, None)
    target.take_keys(["first-key", "second-key"])
    plan = Plan("m", "1", (), {"score.py": File.of(b"")}, "score.py", "", "3.11")
    serving = target.prepare(plan, 1, {"namespace": "scoring", "threads": 4}, keyed=True)
    with pytest.raises(NotHere, match=r"connection was refused.*docker build .*kubectl apply --filename"):
        target.start(serving)

    def status(**said: object) -> None:
        partial = tmp_path / "partial"
        partial.write_text(json.dumps({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": said}))
        partial.replace(tmp_path / "deployment")

    status(observedGeneration=1, replicas=2, updatedReplicas=2, availableReplicas=2)  # of the generation before
    one = target.start(serving)
    asked = (tmp_path / "said").read_text().count("get deployment m --output json --namespace scoring")
    until(lambda: (tmp_path / "said").read_text().count("get deployment") > asked + 2)
    assert not one.is_ready and target.uri == "http://m.scoring.svc/score"
    status(observedGeneration=2, replicas=3, updatedReplicas=2, availableReplicas=2)  # an old pod is there still
    status(observedGeneration=2, replicas=2, updatedReplicas=2, availableReplicas=2)
    until(lambda: one.is_ready)
    target.take_keys(["third-key", "second-key"])
    file = tmp_path / "cache" / "targets" / "kubernetes" / "default" / "m" / "kubernetes.yaml"
    secret, deployment, *_ = yaml.safe_load_all(file.read_text())
    assert secret["stringData"] == {"keys": "third-key\nsecond-key\n"} and file.stat().st_mode & 0o777 == 0o600
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"name": "DBML_THREADS", "value": "4"} in container["env"]
    (tmp_path / "deployment").unlink()
    until(lambda: one.ended() == "the deployment was deleted")
    one.close()

    status(observedGeneration=2, replicas=2, updatedReplicas=1, availableReplicas=1, conditions=[
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "it has timed out"}])  # fmt: skip
    late = target.start(serving)
    until(lambda: late.ended() == "it has timed out")
    late.close()
    target.close(deleted=True)
    assert f"delete --ignore-not-found --wait=false --filename {file}" in (tmp_path / "said").read_text() and not file.exists()

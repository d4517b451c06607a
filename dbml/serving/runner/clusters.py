"""The target `kubernetes`: manifests, applied where kubectl and a cluster are, and kept in any case.

A Deployment with probes and limits, a Service, an autoscaler, and a Secret with the keys where they are asked for.  The image
is built where an engine answers and pushed where the config names a `registry`.  The cluster does the rest: it replaces pods
one by one, restarts what dies, and goes on without the runner.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dbml import errors
from dbml.serving.export import manifests
from dbml.serving.export.folder import write
from dbml.serving.export.plan import Plan
from dbml.serving.runner import containers
from dbml.serving.runner.containers import image_tag, variables
from dbml.serving.runner.contract import Machine, NotHere, Service, Serving, Target
from dbml.serving.runner.lasting import Lasting, environment, fetch, folder_of, resources_of

FILE = "kubernetes.yaml"
KEYS = "/run/dbml"
LOOK_S = 1.0
COMMAND_S = 60.0


class Clusters(Target):
    """One Deployment of a cluster."""

    kind = "kubernetes"
    lasting = True

    def __init__(self, service: Service, machine: Machine) -> None:
        self._service, self._machine = service, machine
        self._keys: list[str] = []
        self._file: Path | None = None
        self._keyed_by: Mapping[str, Any] | None = None  # the Secret, as it was written
        self._kubectl = shutil.which("kubectl")

    def listen(self, host: str, port: int, former: int | None) -> None:
        """Say the address within the cluster once it is known: the name is the plan's."""
        self.uri = ""

    def prepare(
        self, plan: Plan, generation: int, config: Mapping[str, Any], *, keyed: bool, beside: bool = False
    ) -> Serving:  # fmt: skip
        """Write the manifests, and make the image where that can be done."""
        if beside:
            raise self.without_candidates
        folder = folder_of(self._service, self._machine, config, "kubernetes")
        wheels = bool(self._machine.find_links or self._machine.no_index)
        write(plan, folder, wheels=wheels)
        if wheels:
            fetch(folder, plan, self._machine, self._service)
        registry = config.get("registry")
        image = image_tag(plan, self._service)
        if registry:
            image = f"{registry.rstrip('/')}/{image}"
        documents = self.documents(plan, image, config, keyed=keyed)
        self._file = folder / FILE
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # the keys are in it
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(f"# Made by dbml for {plan.name} version {plan.version}.\n")
            yaml.safe_dump_all(documents, out, sort_keys=False, allow_unicode=True)
        self._service.say(f"{self._file} is written")
        namespace = config.get("namespace") or "default"
        self.uri = f"http://{plan.dns_name}.{namespace}.svc/score"
        todo = self._make_image(plan, folder, image, registry)
        if self._kubectl is None:
            raise NotHere(f"kubectl is not here: {todo}kubectl apply --filename {self._file} runs it")
        return Serving(generation, folder, config, keyed, todo, plan)

    def documents(self, plan: Plan, image: str, config: Mapping[str, Any], *, keyed: bool) -> list[dict[str, Any]]:
        """Return the manifests."""
        namespace = config.get("namespace")
        found = manifests.kubernetes(plan, image, resources_of(config), namespace)
        pod = found[0]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        given = variables(config)
        if keyed:
            given["DBML_KEYS"] = f"{KEYS}/keys"
            name = f"{plan.dns_name}-keys"
            secret = {
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": {"name": name, "labels": found[0]["metadata"]["labels"],
                             **({"namespace": namespace} if namespace else {})},
                "stringData": {"keys": "".join(f"{key}\n" for key in self._keys)},
            }  # fmt: skip
            pod["volumes"].append({"name": "keys", "secret": {"secretName": name, "defaultMode": 0o444}})
            container["volumeMounts"].append({"name": "keys", "mountPath": KEYS, "readOnly": True})
            found.insert(0, secret)
            self._keyed_by = secret
        else:
            self._keyed_by = None
        if given:
            container["env"] = [{"name": name, "value": value} for name, value in sorted(given.items())]
        return found

    def _make_image(self, plan: Plan, folder: Path, image: str, registry: str | None) -> str:
        """Build and push; returns what is left for somebody to do, as commands."""
        todo = f"docker build --tag {image} {folder}; docker push {image}; "
        try:
            engine = containers.client()
        except (NotHere, errors.DbmlError) as error:
            self._service.say(f"the image is not built: {error}")
            return todo
        try:
            made = containers.build(engine, plan, self._service, self._machine)
            engine.images.get(made).tag(*image.rsplit(":", 1))
            if registry is None:
                self._service.say(f"image {image} is on this engine alone: the config's registry says where it is pushed to")
                return ""
            for line in engine.api.push(*image.rsplit(":", 1), stream=True, decode=True):
                if "error" in line:
                    raise errors.EnvironmentBuildFailed(f"image {image} cannot be pushed: {line['error']}")
            self._service.say(f"image {image} is pushed")
            return ""
        finally:
            engine.close()

    def start(self, serving: Serving) -> Deployed:
        """Apply the manifests.

        Raises: NotHere where no cluster takes them.
        """
        assert self._kubectl is not None and self._file is not None
        code, said = _run(self._kubectl, "apply", "--filename", str(self._file))
        if code != 0:
            last = said.splitlines()[-1] if said else f"exit code {code}"
            raise NotHere(
                f"no cluster takes the manifests ({last}): {serving.made}kubectl apply --filename {self._file} runs them"
            )
        for line in said.splitlines():
            self._service.tail.add(line)
        return Deployed(self._kubectl, serving, serving.config.get("namespace"))

    def take_keys(self, keys: Sequence[str]) -> None:
        """Write the Secret again, and apply it: pods see it within a minute."""
        self._keys = list(keys)
        if self._file is None or self._keyed_by is None:
            return
        documents = list(yaml.safe_load_all(self._file.read_text(encoding="utf-8")))
        documents[0]["stringData"]["keys"] = "".join(f"{key}\n" for key in keys)
        head = self._file.read_text(encoding="utf-8").partition("\n")[0]
        self._file.write_text(f"{head}\n" + yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True), encoding="utf-8")
        if self._kubectl is not None:
            code, said = _run(self._kubectl, "apply", "--filename", str(self._file))
            if code != 0:
                self._service.say(f"the keys cannot be applied: {said.splitlines()[-1] if said else code}")

    def close(self, *, deleted: bool) -> None:
        """Delete what was applied, where the service is deleted; the files stay where the user named the folder."""
        if not deleted or self._file is None:
            return
        if self._kubectl is not None:
            code, said = _run(self._kubectl, "delete", "--ignore-not-found", "--wait=false", "--filename", str(self._file))
            if code != 0:
                self._service.say(f"what was applied cannot be deleted: {said.splitlines()[-1] if said else code}")
        if self._file.is_relative_to(self._machine.cache):
            shutil.rmtree(self._file.parent, ignore_errors=True)


class Deployed(Lasting):
    """One generation of a Deployment: until the next is applied."""

    kind = "kubernetes"

    def __init__(self, kubectl: str, serving: Serving, namespace: str | None) -> None:
        name = serving.plan.dns_name
        super().__init__(serving, f"{namespace or 'default'}/{name}:{serving.generation}")
        self._words = [kubectl, "get", "deployment", name, "--output", "json", *(["--namespace", namespace] if namespace else [])]
        self._look_after()

    def _look(self) -> None:
        while not self._done.is_set():
            code, said = _run(*self._words)
            if code == 0:
                with contextlib.suppress(ValueError):
                    self._take(json.loads(said))
            elif "(NotFound)" in said:
                self._ended = "the deployment was deleted"
            if self._ended is not None:
                return
            self._done.wait(LOOK_S)

    def _take(self, deployment: Mapping[str, Any]) -> None:
        """Read how a Deployment is.

        Source: kubernetes.io, "Deployments", status of a deployment; what `kubectl rollout status` looks at.
        """
        status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
        if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
            return
        conditions = {one["type"]: one for one in status.get("conditions", [])}
        progress = conditions.get("Progressing", {})
        counts = [status.get(name, 0) for name in ("updatedReplicas", "availableReplicas")]
        if not self._ready.is_set() and progress.get("reason") == "ProgressDeadlineExceeded":
            self._ended = str(progress.get("message", "it does not progress"))
        elif all(count >= wanted for count in counts) and status.get("replicas", 0) == status.get("updatedReplicas", 0):
            self._ready.set()


def _run(*words: str) -> tuple[int, str]:
    """Run kubectl; returns its exit code, and what it printed."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_S, env=environment())
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout.strip() or done.stderr.strip()

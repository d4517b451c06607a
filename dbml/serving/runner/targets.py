"""Which class serves a target, by its word in dbml.services."""

from __future__ import annotations

from dbml.serving.runner.contract import Machine, NotHere, Service, Target


def target_of(kind: str, service: Service, machine: Machine) -> Target:
    """Return the target of a service.

    Raises: DbmlError where packages are missing; NotHere where this machine has nothing that could run it.
    """
    if kind == "process":
        from dbml.serving.runner.processes import Processes

        return Processes(service, machine)
    if kind == "docker":
        from dbml.serving.runner.containers import Containers

        return Containers(service, machine)
    if kind == "compose":
        from dbml.serving.runner.composing import Composing

        return Composing(service, machine)
    if kind == "kubernetes":
        from dbml.serving.runner.clusters import Clusters

        return Clusters(service, machine)
    raise NotHere(f"a service's target must be process, docker, compose or kubernetes, got {kind}")

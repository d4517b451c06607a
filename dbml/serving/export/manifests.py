"""Manifests that run a service's image: compose, Kubernetes, KServe, IoT Edge."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dbml.serving.export.dockerfile import PORT, USER
from dbml.serving.export.plan import Plan


@dataclass(frozen=True)
class Resources:
    """What a service may use: CPUs, memory in MiB, replicas from and to; target_cpu_percent: when more are started."""

    cpu: float = 1.0
    memory_mb: int = 1024
    replicas: int = 1
    max_replicas: int = 3
    target_cpu_percent: int = 70


_SCRAPED = {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT)}


def compose(plan: Plan, image: str, port: int = PORT, resources: Resources | None = None) -> dict[str, Any]:
    """Return a compose file that builds the folder beside it and runs it."""
    limits = resources or Resources()
    return {
        "services": {
            plan.dns_name: {
                "build": {"context": "."}, "image": image, "init": True, "read_only": True, "tmpfs": ["/tmp"],  # noqa: S108
                "user": f"{USER}:{USER}", "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"],
                "ports": [f"127.0.0.1:{port}:{PORT}"], "restart": "unless-stopped", "stop_grace_period": "30s",
                "mem_limit": f"{limits.memory_mb}m", "cpus": limits.cpu, "pids_limit": 256,
            }
        }
    }  # fmt: skip


def _container(plan: Plan, image: str, limits: Resources) -> dict[str, Any]:
    amounts = {"cpu": _cpu(limits.cpu), "memory": f"{limits.memory_mb}Mi"}
    probe = {"httpGet": {"path": "/v2/health/ready", "port": "http"}, "periodSeconds": 5, "timeoutSeconds": 4}
    return {
        "name": plan.dns_name, "image": image, "ports": [{"name": "http", "containerPort": PORT}],
        "resources": {"requests": amounts, "limits": amounts},
        "startupProbe": {**probe, "failureThreshold": 60}, "readinessProbe": probe,
        "livenessProbe": {"httpGet": {"path": "/v2/health/live", "port": "http"}, "periodSeconds": 10, "timeoutSeconds": 5},
        # A node that is told late goes on sending for a moment: wait, then drain.
        "lifecycle": {"preStop": {"exec": {"command": ["python3", "-c", "import time; time.sleep(3)"]}}},
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }  # fmt: skip


def kubernetes(plan: Plan, image: str, resources: Resources | None = None, namespace: str | None = None) -> list[dict[str, Any]]:
    """Return a Deployment with probes and limits, a Service, and a HorizontalPodAutoscaler."""
    limits = resources or Resources()
    name = plan.dns_name
    selector = {"app.kubernetes.io/name": name}
    labels = {**selector, "app.kubernetes.io/version": _label(plan.version), "app.kubernetes.io/managed-by": "dbml"}

    def meta(**more: Any) -> dict[str, Any]:
        return {"name": name, "labels": labels, **({"namespace": namespace} if namespace else {}), **more}

    annotations = {key: value for key, value in plan.labels().items() if key.startswith("dbml.")}
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta(annotations=annotations),
        "spec": {
            "replicas": limits.replicas, "selector": {"matchLabels": selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations | _SCRAPED},
                "spec": {
                    "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 30,
                    "containers": [_container(plan, image, limits)], "volumes": [{"name": "tmp", "emptyDir": {}}],
                },
            },
        },
    }  # fmt: skip
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": meta(),
        "spec": {"selector": selector, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }  # fmt: skip
    scaler = {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": meta(),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": limits.replicas, "maxReplicas": max(limits.max_replicas, limits.replicas),
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {
                "type": "Utilization", "averageUtilization": limits.target_cpu_percent}}}],
        },
    }  # fmt: skip
    return [deployment, service, scaler]


def kserve(plan: Plan, image: str, resources: Resources | None = None, namespace: str | None = None) -> dict[str, Any]:
    """Return an InferenceService that runs the image as its predictor, which speaks protocol v2."""
    limits = resources or Resources()
    container = _container(plan, image, limits)
    for left_to_kserve in ("lifecycle", "startupProbe"):
        del container[left_to_kserve]
    container["name"] = "kserve-container"
    container["ports"] = [{"containerPort": PORT, "protocol": "TCP"}]
    for probe in ("readinessProbe", "livenessProbe"):
        container[probe]["httpGet"]["port"] = PORT
    return {
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "metadata": {"name": plan.dns_name, **({"namespace": namespace} if namespace else {}),
                     "annotations": {key: value for key, value in plan.labels().items() if key.startswith("dbml.")}},
        "spec": {"predictor": {
            "minReplicas": limits.replicas, "maxReplicas": max(limits.max_replicas, limits.replicas),
            "containers": [container], "volumes": [{"name": "tmp", "emptyDir": {}}],
        }},
    }  # fmt: skip


def iot_edge(
    plan: Plan, image: str, resources: Resources | None = None, *, modules: Mapping[str, Any] | None = None,
    routes: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return a deployment manifest of Azure IoT Edge with the service as a module.

    modules: others of the device, each as the manifest has it.  routes: between them, by name.
    Source: learn.microsoft.com, "Deploy modules and establish routes in IoT Edge", schema version 1.1.
    """
    limits = resources or Resources()
    options = {
        "ExposedPorts": {f"{PORT}/tcp": {}},
        "HostConfig": {
            "PortBindings": {f"{PORT}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(PORT)}]}, "ReadonlyRootfs": True,
            "Tmpfs": {"/tmp": ""}, "Memory": limits.memory_mb << 20, "NanoCpus": int(limits.cpu * 1e9),  # noqa: S108
            "CapDrop": ["ALL"],
        },
    }  # fmt: skip
    module = {
        "version": plan.version, "type": "docker", "status": "running", "restartPolicy": "always",
        "settings": {"image": image, "createOptions": json.dumps(options)},
    }  # fmt: skip
    system = {
        "edgeAgent": {"type": "docker", "settings": {"image": "mcr.microsoft.com/azureiotedge-agent:1.5", "createOptions": "{}"}},
        "edgeHub": {"type": "docker", "status": "running", "restartPolicy": "always",
                    "settings": {"image": "mcr.microsoft.com/azureiotedge-hub:1.5", "createOptions": "{}"}},
    }  # fmt: skip
    return {
        "modulesContent": {
            "$edgeAgent": {"properties.desired": {
                "schemaVersion": "1.1", "runtime": {"type": "docker", "settings": {"minDockerVersion": "v1.25"}},
                "systemModules": system, "modules": {**(modules or {}), plan.dns_name: module},
            }},
            "$edgeHub": {"properties.desired": {
                "schemaVersion": "1.1", "routes": dict(routes or {}), "storeAndForwardConfiguration": {"timeToLiveSecs": 7200}}},
        }
    }  # fmt: skip


def _cpu(cpus: float) -> str:
    return str(int(cpus)) if float(cpus).is_integer() else f"{round(cpus * 1000)}m"


def _label(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text)[:63].strip("-_.") or "1"

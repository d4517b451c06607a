"""The bill of materials of a service, CycloneDX 1.6 in JSON: its models and every package of its lock."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from dbml.serving.export.plan import Plan, packages

_NAMESPACE = uuid.UUID("5f0c1c9e-9f6e-5a52-8f0f-6a2f1c7b6d11")


def sbom(plan: Plan) -> str:
    """Return the bill of materials; the same plan gives the same text."""
    bom = Bom(serial_number=uuid.uuid5(_NAMESPACE, plan.digest))
    bom.metadata.timestamp = datetime(2000, 1, 1, tzinfo=UTC)  # the same plan, the same bill
    root = Component(type=ComponentType.APPLICATION, name=plan.name, version=plan.version, bom_ref=f"service-{plan.dns_name}")
    bom.metadata.component = root
    parts = []
    for model in plan.models:
        hashes = [HashType(alg=HashAlgorithm.SHA_256, content=model.digest)] if model.digest else []
        about = {
            "dbml:format": model.format,
            "dbml:framework": model.framework,
            "dbml:run": model.run_id,
            "dbml:workspace": model.workspace,
        }
        parts.append(Component(
            type=ComponentType.MACHINE_LEARNING_MODEL, name=model.name, version=str(model.version), hashes=hashes,
            bom_ref=f"model-{model.reference}", description=model.description,
            properties=[Property(name=name, value=value) for name, value in about.items() if value],
        ))  # fmt: skip
    for name, version, digests in packages(plan.lock):
        url = PackageURL("pypi", None, name.lower().replace("_", "-"), version)
        # A lock allows several files of a version, one of which is installed.
        hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in digests[:1]] if len(digests) == 1 else []
        parts.append(Component(type=ComponentType.LIBRARY, name=name, version=version, purl=url, bom_ref=str(url), hashes=hashes))
    for part in parts:
        bom.components.add(part)
    bom.register_dependency(root, parts)
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    return json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

"""KServe's own types, as its SDK publishes them, as JSON schemas.

The SDK's models are generated from the same OpenAPI definition as the custom resource's.  They are read and not imported: the
package wants other versions of what the scoring app is made of.  What they name of Kubernetes is left to Kubernetes' own schema.
"""

from __future__ import annotations

import ast
import re
import zipfile
from functools import cached_property
from pathlib import Path
from typing import Any

VERSION = "0.20.0"
_PLAIN = {
    "str": {"type": "string"}, "int": {"type": "integer"}, "float": {"type": "number"}, "bool": {"type": "boolean"}, "object": {},
    "ResourceQuantity": {"type": ["string", "number"]},
}  # fmt: skip
_NEEDED = re.compile(r"Invalid value for `(\w+)`, must not be `None`")


class Models:
    """The models in a wheel of KServe's SDK."""

    def __init__(self, wheel: Path) -> None:
        self._wheel = wheel

    @cached_property
    def _classes(self) -> dict[str, tuple[dict[str, str], dict[str, str], set[str]]]:
        """For each model: the type of each attribute, its name in JSON, and those that must be there."""
        found = {}
        with zipfile.ZipFile(self._wheel) as archive:
            for name in archive.namelist():
                if not re.fullmatch(r"kserve/models/v1\w+\.py", name):
                    continue
                text = archive.read(name).decode()
                (made,) = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
                told = {
                    node.targets[0].id: ast.literal_eval(node.value)
                    for node in made.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
                }  # fmt: skip
                found[made.name] = (told["openapi_types"], told["attribute_map"], set(_NEEDED.findall(text)))
        return found

    def schema(self, name: str) -> dict[str, Any]:
        """A model as a schema that refuses what the model does not know."""
        definitions: dict[str, Any] = {}
        self._define(name, definitions)
        return {"$ref": f"#/$defs/{name}", "$defs": definitions}

    def _define(self, name: str, definitions: dict[str, Any]) -> None:
        types, names, needed = self._classes[name]
        definitions[name] = made = {"type": "object", "additionalProperties": False, "required": sorted(names[n] for n in needed)}
        made["properties"] = {names[own]: self._of(kind, definitions) for own, kind in types.items()}

    def _of(self, kind: str, definitions: dict[str, Any]) -> dict[str, Any]:
        if kind in _PLAIN:
            return _PLAIN[kind]
        if found := re.fullmatch(r"list\[(.+)\]", kind):
            return {"type": "array", "items": self._of(found[1], definitions)}
        if found := re.fullmatch(r"dict\(str, (.+)\)", kind):
            return {"type": "object", "additionalProperties": self._of(found[1], definitions)}
        if kind not in self._classes:
            return {"type": "object"}  # Kubernetes'
        if kind not in definitions:
            self._define(kind, definitions)
        return {"$ref": f"#/$defs/{kind}"}

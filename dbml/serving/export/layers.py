"""What an image that Docker has is made of: its layers, and how large each of them is."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dbml.serving.export.dockerfile import COPIED

# What the classic builder and BuildKit put around an instruction.
_AROUND = re.compile(r"^/bin/sh -c (#\(nop\)\s+)?|\s+# buildkit$")


@dataclass(frozen=True)
class Layer:
    """One layer: its bytes, unpacked, and the instruction that made it, empty where the engine does not know it."""

    size: int
    made_by: str

    @property
    def is_own(self) -> bool:
        """Tell whether it is of the service, and not of what the image is built on."""
        return self.made_by.startswith("COPY") and any(path in self.made_by for path in COPIED)


def layers(image: str) -> list[Layer]:
    """Return the layers of an image, the lowest first and without those that hold nothing; none where Docker has no such image.

    Which engine: as the command docker finds it (DOCKER_HOST).
    """
    said = _docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}}\t{{.CreatedBy}}", image)
    pairs = (line.partition("\t") for line in reversed(said.splitlines()))
    return [Layer(int(size), _AROUND.sub("", made_by).strip()) for size, _, made_by in pairs if int(size)]


def built_of(digest: str) -> list[str]:
    """Return the tags, else the ids, of the images that Docker has of a plan, the newest first; digest: the plan's."""
    wanted = ("--filter", f"label=dbml.plan={digest}", "--filter", "dangling=false")
    found = _docker("image", "ls", "--no-trunc", *wanted, "--format", "{{.Repository}}:{{.Tag}}\t{{.ID}}")
    pairs = (line.partition("\t") for line in found.splitlines())
    return [identity if "<none>" in tag else tag for tag, _, identity in pairs]


def described(found: Sequence[Layer]) -> Iterator[str]:
    """Yield a line for each layer, and one with their sum."""
    for layer in found:
        yield f"{_mb(layer.size)}  {layer.made_by[:90] or 'of the base'}"
    whole, own = sum(layer.size for layer in found), sum(layer.size for layer in found if layer.is_own)
    yield f"{_mb(whole)}  in all, {own / 1e6:.1f} MB of them beyond the base"


def _mb(size: int) -> str:
    return f"{size / 1e6:8.1f} MB"


def _docker(*words: str) -> str:
    docker = shutil.which("docker")
    if docker is None:
        return ""
    answer = subprocess.run([docker, *words], capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else ""

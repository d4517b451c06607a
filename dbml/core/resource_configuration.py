"""What a model needs when it is deployed."""

from __future__ import annotations

from dbml import errors


class ResourceConfiguration:
    """Processors and memory that a model asks for.

    cpu: cores, a fraction is one.  memory_in_gb: gigabytes.  gpu: whole cards.
    Raises: InvalidArgument for what is not above 0.
    """

    def __init__(self, cpu: float | None = None, memory_in_gb: float | None = None, gpu: int | None = None) -> None:
        for name, value in (("cpu", cpu), ("memory_in_gb", memory_in_gb), ("gpu", gpu)):
            if value is not None and not (value > 0 or (name == "gpu" and value == 0)):
                raise errors.InvalidArgument(f"{name} must be above 0, got {value!r}")
        self.cpu = cpu
        self.memory_in_gb = memory_in_gb
        self.gpu = gpu

    def __repr__(self) -> str:
        return f"ResourceConfiguration(cpu={self.cpu}, memory_in_gb={self.memory_in_gb}, gpu={self.gpu})"

    def serialize(self) -> dict[str, float | int | None]:
        """Return it as JSON has it."""
        return {"cpu": self.cpu, "memoryInGB": self.memory_in_gb, "gpu": self.gpu}

    @staticmethod
    def deserialize(payload_obj: dict[str, float | None]) -> ResourceConfiguration:
        """Make it of what `serialize` returned."""
        gpu = payload_obj.get("gpu")
        return ResourceConfiguration(payload_obj.get("cpu"), payload_obj.get("memoryInGB"), None if gpu is None else int(gpu))

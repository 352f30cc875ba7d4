"""What one results folder gave."""

from dataclasses import dataclass
from typing import Any

from viscera.models.nnunet.labels import LabelTables
from viscera.models.nnunet.plans import Configuration
from viscera.models.nnunet.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One results folder, read."""

    found: Configuration
    tables: LabelTables
    facts: dict[str, Any]
    """What the child process said of the checkpoints."""
    size_bytes: int
    """Of the network as ONNX."""

    def mirror_axes(self, request: Request) -> list[int]:
        """Return the axes along which tiles will be mirrored."""
        return sorted(self.facts["mirror_axes"]) if request.mirrors else []

    @property
    def title(self) -> str:
        """Where it comes from."""
        facts = self.facts
        return (
            f"nnU-Net {facts['dataset']}, {facts['plans']}, {facts['trainer']}, configuration"
            f" {self.found.name}, folds {', '.join(facts['folds'])}"
        )

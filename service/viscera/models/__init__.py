"""Model packages: `<repo>/<name>/<version>/` with manifest, network, golden tile, card.

In: the model repository's folder. Out: checked `Model` and `Golden` values; new packages.
Fails: `ModelNotFound`, `ModelRefused` (a manifest with a wrong key, a file whose digest differs).
Nothing here runs a network; `segment` compares the golden tile.
"""

from viscera.models.package import (
    check_name,
    list_models,
    load_model,
    package_names,
    read_golden,
    version_in_force,
)
from viscera.models.write import add_half, write_package

__all__ = [
    "add_half",
    "check_name",
    "list_models",
    "load_model",
    "package_names",
    "read_golden",
    "version_in_force",
    "write_package",
]

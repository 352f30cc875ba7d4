"""Reading packages: found by name, checked by digest."""

import hashlib
import io
import re
import zipfile
from pathlib import Path

import numpy as np

from viscera import log
from viscera.domain.models import Golden, Model
from viscera.errors import ModelNotFound, ModelRefused, ServiceError
from viscera.models.active import active_version
from viscera.models.manifest import VERSION_PATTERN, parse_manifest
from viscera.models.tables import NAME_PATTERN

MANIFEST = "manifest.toml"

_NAMED = "a model is named `name` or `name/version`"

_log = log.get(__name__)


def load_model(repo: Path, name: str) -> Model:
    """Load and check one package.

    Parameters
    ----------
    repo
        The model repository.
    name
        ``name`` for the version in force (see `active`), the newest where none was activated
        (numbers compare as numbers); or ``name/version``.

    Raises
    ------
    ModelNotFound
        If there is none.
    ModelRefused
        If the manifest is wrong, or a file's digest is not the one it lists. A newer version
        that is refused is never replaced by an older one in silence.
    """
    family, _, version = name.partition("/")
    _require_family(family)
    if version and not re.fullmatch(VERSION_PATTERN, version):
        raise ModelNotFound(_NAMED)
    chosen = version or version_in_force(repo, family)
    if chosen not in _versions(repo / family):
        raise ModelNotFound(
            f"no model {name} in the model repository"
            if version
            else f"version {chosen} of {family} is in force but is not there; bring it back, or"
            " let another one serve: viscera model activate, or rollback"
        )
    return _load_package(repo / family / chosen)


def version_in_force(repo: Path, family: str) -> str:
    """Return which version serves under the bare name, whether or not it is there and whole.

    Raises
    ------
    ModelNotFound
        If `family` is no name, or has neither a version nor one that was activated.
    """
    _require_family(family)
    version = active_version(repo / family) or next(reversed(_versions(repo / family)), None)
    if version is None:
        raise ModelNotFound(f"no model {family} in the model repository")
    return version


def _require_family(family: str) -> None:
    if not re.fullmatch(NAME_PATTERN, family):
        raise ModelNotFound(_NAMED)


def check_name(name: str, version: str) -> None:
    """Refuse what can be no package's name.

    Raises
    ------
    ModelRefused
        If `name` or `version` would not do as a folder.
    """
    if not re.fullmatch(NAME_PATTERN, name) or not re.fullmatch(VERSION_PATTERN, version):
        raise ModelRefused(
            f"{name}/{version}: a name is lower case letters, digits, - and _; a version letters,"
            " digits, . - and _"
        )


def package_names(repo: Path) -> tuple[str, ...]:
    """Return ``name/version`` of every package that has a manifest, unchecked, oldest first."""
    families = sorted(p for p in repo.glob("*") if re.fullmatch(NAME_PATTERN, p.name))
    return tuple(f"{f.name}/{version}" for f in families for version in _versions(f))


def list_models(repo: Path) -> tuple[Model, ...]:
    """Load every package; one that is refused is logged and left out, and hides no other."""
    found = []
    for name in package_names(repo):
        try:
            found.append(load_model(repo, name))
        except ServiceError as error:
            _log.warning("model_refused", model=name, reason=error.reason, message=str(error))
    return tuple(found)


def read_golden(model: Model) -> Golden:
    """Read the golden tile of `model`.

    Raises
    ------
    ModelRefused
        If the file is not what `write_package` writes. Nothing in it is unpickled.
    """
    try:
        with np.load(io.BytesIO(model.golden.read_bytes()), allow_pickle=False) as arrays:
            golden = Golden(
                seed=int(arrays["seed"]),
                argmax=arrays["argmax"],
                sample=arrays["sample"],
                logits=arrays["logits"],
            )
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelRefused(f"the golden tile of {model.full_name} cannot be read") from error
    sizes = model.output_count * int(np.prod(model.patch_size))
    if not (
        golden.argmax.shape == model.patch_size
        and golden.argmax.dtype == np.uint8
        and golden.sample.dtype == np.int64
        and golden.logits.dtype == np.float32
        and golden.sample.ndim == 1
        and golden.sample.shape == golden.logits.shape
        and golden.sample.size > 0
        and 0 <= golden.sample.min() <= golden.sample.max() < sizes
    ):
        raise ModelRefused(f"the golden tile of {model.full_name} does not fit its patch")
    return golden


def sha256_of(path: Path) -> str:
    """Return the hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load_package(folder: Path) -> Model:
    where = f"{folder.parent.name}/{folder.name}"
    try:
        written = (folder / MANIFEST).read_bytes()
        manifest = parse_manifest(written.decode(), where)
    except (OSError, UnicodeDecodeError) as error:
        raise ModelRefused(f"the manifest of {where} cannot be read") from error
    if (manifest.name, manifest.version) != (folder.parent.name, folder.name):
        raise ModelRefused(
            f"the package in {where} says that it is {manifest.name}/{manifest.version}; "
            "its folder must say the same"
        )
    for name, digest in manifest.files.items():
        try:
            found = sha256_of(folder / name)
        except OSError as error:
            raise ModelRefused(f"{where}: {name} is listed but cannot be read") from error
        if found != digest:
            raise ModelRefused(
                f"{where}: {name} is not the file of the manifest (sha256 {found[:12]}, "
                f"expected {digest[:12]}); fetch the package again"
            )
    return manifest.to_model(folder, hashlib.sha256(written).hexdigest())


def _versions(family: Path) -> list[str]:
    """Return the versions that have a manifest, oldest first."""
    names = [p.parent.name for p in family.glob(f"*/{MANIFEST}")]
    return sorted((n for n in names if re.fullmatch(VERSION_PATTERN, n)), key=_natural)


def _natural(version: str) -> list[tuple[int, int, str]]:
    """Order numbers as numbers and before words: 1.9 < 1.10 < 1.rc."""
    parts = re.findall(r"\d+|[A-Za-z]+", version)
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts]

"""Writing packages: what training, importing and the tests' band model end in."""

import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from viscera.domain.models import Golden, Model
from viscera.models.manifest import parse_manifest
from viscera.models.package import MANIFEST, load_model

CARD = "MODEL_CARD.md"


def write_package(
    folder: Path,
    manifest: Mapping[str, Any],
    *,
    onnx: bytes,
    make_golden: Callable[[Model], Golden],
    card: str,
) -> Model:
    """Write a package and load it back.

    Parameters
    ----------
    folder
        ``<repo>/<name>/<version>``; made where it is missing. Its manifest is written last, so
        a package that was not finished is none.
    manifest
        The tables of `manifest.toml` but ``files``; see :class:`models.manifest.Manifest`.
    onnx
        The network, float32.
    make_golden
        Called with the model once its network lies in `folder`: usually ``segment.golden.make``
        on an engine that is trusted.
    card
        Markdown: what it was trained on, how well it does, what it must not be used for.

    Raises
    ------
    ModelRefused
        If `manifest` is wrong, or contradicts `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    where = f"{folder.parent.name}/{folder.name}"
    contents = {"model.onnx": onnx, CARD: card.encode()}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    draft = _with_digests(manifest, {**contents, "golden.npz": b""})
    golden = make_golden(parse_manifest(draft, where).to_model(folder, ""))
    contents["golden.npz"] = _npz(golden)
    (folder / "golden.npz").write_bytes(contents["golden.npz"])
    part = folder / f"{MANIFEST}.part"
    part.write_text(_with_digests(manifest, contents), encoding="utf-8")
    part.replace(folder / MANIFEST)
    return load_model(folder.parents[1], where)


def _with_digests(manifest: Mapping[str, Any], contents: Mapping[str, bytes]) -> str:
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return dump_toml({**manifest, "files": files})


def _npz(golden: Golden) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        seed=np.int64(golden.seed),
        argmax=golden.argmax,
        sample=golden.sample,
        logits=golden.logits,
    )
    return buffer.getvalue()


def dump_toml(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> str:
    """Return `tree` as TOML: strings, numbers, booleans, lists, tables; None is left out."""
    tree = {key: value for key, value in tree.items() if value is not None}
    tables = {key: value for key, value in tree.items() if isinstance(value, Mapping)}
    lines = [f"{_key(k)} = {_value(v)}" for k, v in tree.items() if k not in tables]
    text = "".join(f"{line}\n" for line in lines)
    if path and (lines or not tables):
        text = f"\n[{'.'.join(map(_key, path))}]\n{text}"
    return text + "".join(dump_toml(table, (*path, key)) for key, table in tables.items())


def _value(value: Any) -> str:
    match value:
        case bool() | int() | float():
            return json.dumps(value)
        case str():
            return _string(value)
        case Mapping():
            inner = (f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None)
            return f"{{ {', '.join(inner)} }}"
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case _:
            raise TypeError(f"TOML has no {type(value).__name__}")


def _string(text: str) -> str:
    """Return `text` in quotes: JSON's escapes are TOML's, but for DEL and surrogate pairs."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(text: str) -> str:
    return text if re.fullmatch("[A-Za-z0-9_-]+", text) else _string(text)

"""Writing packages: what training, importing and the tests' band model end in."""

import hashlib
import io
import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from viscera.domain.models import Golden, Model
from viscera.errors import ModelRefused
from viscera.files.durable import sync_file, sync_folder
from viscera.models.manifest import (
    WHOLE,
    Manifest,
    golden_name,
    half_name,
    onnx_name,
    parse_manifest,
)
from viscera.models.package import MANIFEST, load_model

CARD = "MODEL_CARD.md"


def write_package(
    folder: Path,
    manifest: Mapping[str, Any],
    *,
    onnx: bytes | Sequence[bytes],
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
        The network, float32; or one for each of the manifest's ``parts``, in their order.
    make_golden
        Called with each network's model once it lies in `folder`: usually ``segment.golden.make``
        on an engine that is trusted.
    card
        Markdown: what it was trained on, how well it does, what it must not be used for.

    Raises
    ------
    ModelRefused
        If `manifest` is wrong, or contradicts `folder`; the former before anything is written.
    """
    where = f"{folder.parent.name}/{folder.name}"
    networks = [onnx] if isinstance(onnx, bytes) else onnx
    stems = [part["name"] for part in manifest.get("parts", ())] or [WHOLE]
    named = dict(zip(map(onnx_name, stems), networks, strict=True))
    contents = {**named, CARD: card.encode()}
    goldens = map(golden_name, stems)
    files = dict.fromkeys((*contents, *goldens), hashlib.sha256().hexdigest())
    _parsed(manifest, files, where)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    files |= {name: _write(folder / name, content) for name, content in contents.items()}
    draft = _parsed(manifest, files, where).to_model(folder, "")
    for network in draft.networks:
        files[network.golden.name] = _write(network.golden, _npz(make_golden(network)))
    _write_manifest(folder, {**manifest, "files": files})
    return load_model(folder.parents[1], where)


def add_half(model: Model, networks: Mapping[str, bytes]) -> Model:
    """Add networks in half precision to a package that is not in its repository yet.

    Parameters
    ----------
    model
        As :func:`write_package` returned it.
    networks
        ONNX, by the name of the part; ``""`` where the package is one network.
    """
    manifest = tomllib.loads((model.folder / MANIFEST).read_text(encoding="utf-8"))
    for part, content in networks.items():
        name = half_name(part or WHOLE)
        manifest["files"][name] = _write(model.folder / name, content)
    _write_manifest(model.folder, manifest)
    return load_model(model.folder.parents[1], model.full_name)


def _parsed(manifest: Mapping[str, Any], files: Mapping[str, str], where: str) -> Manifest:
    try:
        text = dump_toml({**manifest, "files": files})
    except TypeError as error:
        raise ModelRefused(f"the manifest of {where} is wrong: {error}") from error
    return parse_manifest(text, where)


def _write(path: Path, content: bytes) -> str:
    """Write a file durably; return its digest."""
    path.write_bytes(content)
    sync_file(path)
    return hashlib.sha256(content).hexdigest()


def _write_manifest(folder: Path, tables: Mapping[str, Any]) -> None:
    part = folder / f"{MANIFEST}.part"
    part.write_text(dump_toml(tables), encoding="utf-8")
    sync_file(part)
    part.replace(folder / MANIFEST)
    sync_folder(folder)


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
    """Return `tree` as TOML: strings, numbers, booleans, lists, tables; None is left out.

    A list of tables is written table by table at the top, within a line below it.
    """
    tree = {key: value for key, value in tree.items() if value is not None}
    tables = {key: value for key, value in tree.items() if isinstance(value, Mapping)}
    lists = {key: value for key, value in tree.items() if not path and _is_tables(value)}
    lines = [f"{_key(k)} = {_value(v)}" for k, v in tree.items() if k not in {**tables, **lists}]
    text = "".join(f"{line}\n" for line in lines)
    if path and (lines or not tables):
        text = f"\n[{'.'.join(map(_key, path))}]\n{text}"
    text += "".join(dump_toml(table, (*path, key)) for key, table in tables.items())
    return text + "".join(_tables(key, rows) for key, rows in lists.items())


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _tables(key: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return an array of tables, which begins with its plain keys."""
    text = ""
    for row in rows:
        plain = {k: v for k, v in row.items() if not isinstance(v, Mapping)}
        tables = {k: v for k, v in row.items() if isinstance(v, Mapping)}
        text += f"\n[[{_key(key)}]]\n{dump_toml(plain)}"
        text += "".join(dump_toml(table, (key, name)) for name, table in tables.items())
    return text


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

"""Manifests that `viscera model import onnx` cannot take are refused by one clear sentence."""

from pathlib import Path

import pytest

from brought import Viscera, brought, tree

PARTS = """
[[parts]]
name = "one"
output = { outputs = [0, 1] }
[[parts]]
name = "two"
output = { outputs = [0, 2] }
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("", PARTS, "one network has no parts"),
        ("", "[[parts]]\noutput = 1\n", "one network has no parts"),
        ("", "[parts]\nname = 1\n", "one network has no parts"),
        ("format = 2", "format = 2\nparts = 7", "one network has no parts"),
        ("format = 2", "format = 1979-05-27", "TOML has no date"),
        ("format = 2", "format = inf", "is not what TOML allows|format"),
        ("format = 2", "format = [[1, 1979-05-27]]", "TOML has no date"),
        ("format = 2", "format = [{ a = [{ b = 1 }] }]", "format"),
        ("format = 2", "format = ", "cannot be read"),
        ('name = "mine"', "name = 1", "a name is lower case|name:"),
        ('name = "mine"', "", "a name is lower case"),
        ('version = "1"', "version = [1]", "a name is lower case"),
        ("[tiles]", "[tiless]", "tiles: Field required"),
        ("patch_size = [8, 16, 16]", "patch_size = 8", "tiles.patch_size"),
        ('labels = "amos15"', "labels = 3", "output.labels"),
        ('labels = "amos15"', 'labels = ["liver"]\noutputs = "all"', "output.outputs"),
    ],
)
def test_a_malformed_manifest_is_refused_in_a_sentence(
    viscera: Viscera, repo: Path, tmp_path: Path, old: str, new: str, says: str
) -> None:
    network, manifest = brought(tmp_path)
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new) if old else text + new)
    status, said = viscera("model", "import", "onnx", network, "--manifest", manifest)
    assert status == 2, said
    assert "Traceback" not in said
    assert any(words in said for words in says.split("|")), said
    assert not repo.exists() or tree(repo) == {}


def test_a_bad_manifest_is_refused_before_the_network_is_written(
    viscera: Viscera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, manifest = brought(tmp_path, grade="perfect")
    written: list[str] = []
    write_bytes = Path.write_bytes

    def noted(self: Path, content: bytes) -> int:
        written.append(self.name)
        return write_bytes(self, content)

    monkeypatch.setattr(Path, "write_bytes", noted)
    status, said = viscera("model", "import", "onnx", network, "--manifest", manifest)
    assert (status, "grade" in said) == (2, True), said
    assert written == []

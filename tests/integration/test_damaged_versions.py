"""A version that is damaged or gone stands in nobody's way: activate, rollback, import."""

import shutil
from pathlib import Path

import pytest

from brought import BANDS, Viscera, brought
from viscera import models


@pytest.fixture
def bring(viscera: Viscera, tmp_path: Path):
    """Import mine/VERSION; return the status and what was said."""

    def one(version: str) -> tuple[int, str]:
        network, manifest = brought(tmp_path, version=version, output={"labels": list(BANDS)})
        return viscera("model", "import", "onnx", network, "--manifest", manifest)

    return one


def damage(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"half of it")


@pytest.mark.parametrize("broken", [damage, shutil.rmtree])
def test_a_broken_version_in_force_is_rolled_back(viscera, repo, bring, broken) -> None:
    for version in ("1", "2"):
        assert bring(version)[0] == 0
    assert viscera("model", "activate", "mine/2", "--unchecked")[0] == 0
    broken(repo / "mine" / "2")
    assert viscera("model", "rollback", "mine") == (0, "mine/1 serves as mine again\n")
    assert models.load_model(repo, "mine").version == "1"


@pytest.mark.parametrize("broken", [damage, shutil.rmtree])
def test_a_broken_version_in_force_is_replaced(viscera, repo, bring, broken) -> None:
    for version in ("1", "2"):
        assert bring(version)[0] == 0
    broken(repo / "mine" / "1")
    status, said = viscera("model", "activate", "mine/2", "--unchecked")
    assert status == 0, said
    assert models.load_model(repo, "mine").version == "2"


def test_a_version_in_force_that_is_gone_is_called_so(viscera, repo, bring) -> None:
    for version in ("1", "2"):
        assert bring(version)[0] == 0
    assert viscera("model", "activate", "mine/2", "--unchecked")[0] == 0
    shutil.rmtree(repo / "mine" / "2")
    status, said = viscera("model", "show", "mine")
    assert (status, "version 2 of mine is in force but is not there" in said) == (2, True), said


def test_nothing_changes_if_the_version_before_is_broken_too(viscera, repo, bring) -> None:
    for version in ("1", "2"):
        assert bring(version)[0] == 0
    assert viscera("model", "activate", "mine/2", "--unchecked")[0] == 0
    damage(repo / "mine" / "1")
    status, said = viscera("model", "rollback", "mine")
    assert (status, "is not the file of the manifest" in said) == (2, True), said
    assert (repo / "mine" / "active").read_text() == "1\n2\n"


@pytest.mark.parametrize("name", ["../mine", "mine/2", "Mine", ""])
def test_a_rollback_of_no_family_is_refused(viscera, bring, name) -> None:
    assert bring("1")[0] == 0
    status, said = viscera("model", "rollback", name)
    assert (status, "a model is named" in said) == (2, True), said


def test_a_rollback_of_an_unknown_family_says_so(viscera, bring) -> None:
    assert bring("1")[0] == 0
    assert "no model other in the model repository" in viscera("model", "rollback", "other")[1]


def test_a_damaged_version_hinders_no_import(repo, bring) -> None:
    assert bring("1")[0] == 0
    damage(repo / "mine" / "1")
    status, said = bring("2")
    assert status == 0, said
    assert (repo / "mine" / "active").read_text() == "1\n"  # the new one waits all the same


def test_an_empty_family_folder_is_no_family(repo, bring) -> None:
    (repo / "mine").mkdir(parents=True)
    status, said = bring("1")
    assert status == 0, said
    assert models.load_model(repo, "mine").version == "1"
    assert not (repo / "mine" / "active").exists()

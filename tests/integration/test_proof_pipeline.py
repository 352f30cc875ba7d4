"""A writer that packs wrongly: the job ends in an error, and what it wrote goes nowhere."""

import numpy as np
import pytest

import band
import synthetic
from viscera.cli import main


@pytest.fixture
def arguments(tmp_path):
    band.write_band_package(tmp_path / "models", patch=(8, 32, 32), step=1.0)
    hu = np.random.default_rng(2).integers(-400, 600, (9, 33, 35))
    slices = synthetic.Slices(stored=(hu + 1024).astype(np.uint16))
    synthetic.write_series(slices, tmp_path / "in")
    return [
        "segment", str(tmp_path / "in"), "--out", str(tmp_path / "out"),
        "--model", "band", "--model-repo", str(tmp_path / "models"),
    ]  # fmt: skip


def test_an_honest_writer_passes(arguments, tmp_path):
    assert main(arguments) == 0
    assert (tmp_path / "out" / "segmentation.dcm").is_file()


def test_bits_in_the_wrong_order_end_the_job(arguments, monkeypatch, capsys):
    honest = np.packbits
    monkeypatch.setattr(np, "packbits", lambda mask, bitorder: honest(mask, bitorder="big"))
    assert main(arguments) != 0
    error = capsys.readouterr().err
    assert "RoundTripMismatch" in error
    assert "nothing is delivered" in error

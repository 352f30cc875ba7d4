"""What `tests/fuzz.py` found worth keeping is handled as it should be, whatever has changed."""

from pathlib import Path

import pytest

import fuzz_targets

CORPUS = Path(__file__).parents[2] / "corpus"


@pytest.mark.parametrize("target", fuzz_targets.TARGETS)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of odd values
def test_the_corpus(target):
    files = sorted((CORPUS / target).iterdir())
    assert files
    for path in files:
        fuzz_targets.TARGETS[target](path.read_bytes())

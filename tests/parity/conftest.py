"""Judged by nnU-Net itself: `make test-parity` makes the environment that has it."""

from importlib.util import find_spec

if find_spec("nnunetv2") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    import torch

    torch.set_num_threads(1)  # the suite runs in two processes

"""Needs torch and nnU-Net's network classes: `make test-parity` has them."""

from importlib.util import find_spec

if find_spec("torch") is None or find_spec("dynamic_network_architectures") is None:
    collect_ignore_glob = ["test_*.py"]

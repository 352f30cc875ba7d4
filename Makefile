# One line a target; `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3.11
PY := .venv/bin/python
export TCP_NODELAY := 1

.PHONY: help setup peers test test-tensorrt check format lock proto docs oddities demo bench bench-gpu e2e run test-parity

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.venv/.runtime: deploy/locks/requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(PY) -m pip install -q --disable-pip-version-check --require-hashes -r deploy/locks/requirements.lock
	$(PY) -m pip install -q --disable-pip-version-check --no-deps -e .
	touch $@

.venv/.dev: deploy/locks/requirements-dev.lock .venv/.runtime
	$(PY) -m pip install -q --disable-pip-version-check --require-hashes -r deploy/locks/requirements-dev.lock
	touch $@

setup: .venv/.runtime ## Make .venv with what the service needs
peers: ## Install Debian's dcmtk, Orthanc, prometheus and strace where apt-get may
	@tests/install-peers.sh
# Small tests side by side. Of those that start whole services, most wait in one lane (kills and
# pauses) while another computes; what times anything closely, and what is new, has the machine to itself.
SMALL := tests/unit tests/contract
WAITING := $(addprefix tests/e2e/test_,kill_e2e.py closing_e2e.py)
BUSY := $(filter-out $(WAITING),$(sort $(wildcard tests/e2e/test_*.py))) tests/oddities \
  $(addprefix tests/integration/test_,channels.py channels_service.py enhanced.py model_commands.py \
  orientations.py package_parts.py series_real.py totalsegmentator.py)
test: .venv/.dev peers ## Run every test (no torch, no GPU)
	$(PY) -m pytest -n 2 --dist loadscope $(SMALL)
	$(PY) tests/side_by_side.py \
	  "TEST_PORTS=20000-23999 $(PY) -m pytest $(WAITING)" "TEST_PORTS=24000-27999 $(PY) -m pytest $(BUSY)"
	$(PY) -m pytest $(addprefix --ignore=,$(SMALL) $(WAITING) $(BUSY))
check: .venv/.dev ## ruff, mypy --strict, import rows, buf
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	npx --yes @bufbuild/buf@1.75.0 lint proto
format: .venv/.dev ## Format the code
	$(PY) -m ruff format . && $(PY) -m ruff check --fix .
lock: ## Pin every dependency again (needs uv)
	for variant in "-:cpu openvino" "-gpu:gpu" "-dev:cpu openvino dev" "-bench:cpu openvino dev bench"; do \
	  extras=$$(for e in $${variant#*:}; do printf -- "--extra %s " $$e; done); name=$${variant%%:*}; \
	  uv pip compile pyproject.toml --python-version 3.11 $$extras --generate-hashes --no-annotate --no-header -q -o deploy/locks/requirements$${name%-}.lock; done
proto: .venv/.dev ## Generate service/viscera/api/v1 from proto/
	$(PY) -m grpc_tools.protoc -Iviscera/api/v1=proto/viscera/v1 --python_out=service --pyi_out=service --grpc_python_out=service viscera/api/v1/viscera.proto
docs: .venv/.dev ## Write the pages of docs/ that come from the code
	$(PY) docs/generate.py && $(PY) docs/conformance.py
oddities: .venv/.dev ## Write docs/oddities.md: odd series in Viscera and in three other programs
	PYTHONPATH=tests $(PY) -m oddities.table
demo: setup ## Push a phantom through the service; results in demo-out/
	$(PY) deploy/demo/run.py
.venv/.bench: deploy/locks/requirements-bench.lock .venv/.dev
	$(PY) -m pip install -q --disable-pip-version-check --require-hashes -r deploy/locks/requirements-bench.lock
	touch $@
bench: .venv/.bench peers ## Time ourselves beside peers; writes bench.json
	-$(MAKE) --no-print-directory .venv-parity/.done
	$(PY) tests/bench/run.py
# Both majors' bindings, over stub libraries, and TensorRT-RTX, which builds without a GPU.
TENSORRT_10 := --no-deps tensorrt-cu13-bindings==10.16.1.11
TENSORRT_11 := --no-deps tensorrt-cu13-bindings==11.4.0.106
TENSORRT_rtx := tensorrt-rtx-cu13==1.7.1.116
TENSORRTS := $(foreach v,10 11 rtx,.venv-trt$v/.done)
$(TENSORRTS): .venv-trt%/.done: .venv/.dev
	$(PYTHON) -m venv .venv-trt$*
	ls -d $$PWD/.venv/lib/python3.*/site-packages $$PWD/service > $$(ls -d .venv-trt$*/lib/python3.*/site-packages)/main.pth
	.venv-trt$*/bin/python -m pip install -q --disable-pip-version-check $(TENSORRT_$*)
	touch $@
test-tensorrt: $(TENSORRTS) ## TensorRT's real API and builds, without a GPU
	$(PY) -m pytest tests/tensorrt_api
bench-gpu: ## On a machine with a GPU and torch: its tests, then seconds a stage; writes bench-gpu.json
	PYTHONPATH=service:tests$${PYTHONPATH:+:$$PYTHONPATH} python3 -m pytest --noconftest -m gpu tests/gpu
	PYTHONPATH=service:tests$${PYTHONPATH:+:$$PYTHONPATH} python3 tests/gpu/bench_gpu.py
e2e: .venv/.dev peers ## Run the end-to-end tests alone
	$(PY) -m pytest -m e2e
# torch by itself, where pip finds a CPU wheel: its ordinary one brings gigabytes of CUDA. The lock
# leaves out torch and torchvision; it is what a passing environment held (pip freeze, then hashes by
# `uv pip compile --no-deps`), for resolving nnunetv2 anew would want CUDA again.
PARITY_TORCH ?= torch==2.13.0+cpu
.venv-parity/.done: deploy/locks/requirements-parity.lock pyproject.toml
	$(PYTHON) -m venv .venv-parity
	.venv-parity/bin/python -m pip install -q --disable-pip-version-check --no-deps "$(PARITY_TORCH)"
	.venv-parity/bin/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r deploy/locks/requirements-parity.lock
	.venv-parity/bin/python -m pip install -q --disable-pip-version-check --no-deps -e .
	touch $@
test-parity: .venv-parity/.done ## What needs torch: training, and imported models beside nnU-Net itself (minutes)
	OMP_WAIT_POLICY=PASSIVE .venv-parity/bin/python -m pytest -n 2 --dist loadgroup -W ignore -o pythonpath="tests tests/parity" --timeout 1800 tests/parity tests/importing tests/unit/training/test_fitting.py
run: setup ## Run the service with ./viscera.toml
	.venv/bin/viscera serve

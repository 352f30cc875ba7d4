"""GPU kernels without a GPU: as the CPU's in the simulator, and machine code for each chip."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("numba-cuda is not installed: extra `tensorrt`", allow_module_level=True)

TESTS = Path(__file__).parents[2]
CHIPS = ["sm_75", "sm_80", "sm_89", "sm_90", "sm_100", "sm_120"]
RUNS = [
    "input_is_the_cpus",
    "a_volume_goes_up_in_blocks",
    "volume_is_the_cpus",
    "tiles_of_air_are_left_out",
    "what_is_computed_is_what_is_taken",
    "logits_that_are_not_finite_are_refused",
    "a_batch_on_the_host_goes_up_and_comes_down",
    "golden_tile_judges_it",
    "golden_tile_goes_through_the_window",
    "a_full_batch_is_run_before_a_job_comes",
    "kernels_for_the_input_are_compiled",
    "plans_that_do_not_fit_are_refused",
    "a_call_that_is_not_taken_is_a_lost_device",
    "onnx_runtime_reads_and_writes_our_memory",
    "onnx_runtime_without_cuda_is_refused",
    "what_onnx_runtime_says_has_our_names",
    "what_cuda_says_has_our_names",
    "what_onnx_runtime_really_raises_is_named",
]
KERNELS = [
    *("gather", "accumulate", "mark_above", "clear", "find_winners", "restore"),
    *("resample", "spline", "extremes", "scale", "scale_within"),
]


def child(script, **environment):
    done = subprocess.run(
        [sys.executable, TESTS / script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def simulated():
    return child("cuda_simulation.py", NUMBA_ENABLE_CUDASIM="1")


@pytest.fixture(scope="module")
def simulated_runs():
    return child("cuda_simulated_run.py", NUMBA_ENABLE_CUDASIM="1")


@pytest.fixture(scope="module")
def compiled():
    return child("cuda_compilation.py", CHIPS=" ".join(CHIPS))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_gives_what_the_cpu_gives(simulated, kernel):
    assert simulated[kernel] == ""


@pytest.mark.parametrize("what", RUNS)
def test_an_engine_on_the_device(simulated_runs, what):
    """`TensorRtEngine` over `fake_tensorrt`, and `segment` with everything on the device."""
    assert simulated_runs[what] == ""


def test_every_kernel_is_compared(simulated, simulated_runs, compiled):
    assert sorted(simulated_runs) == sorted(RUNS)
    assert sorted(simulated) == sorted(KERNELS)
    assert sorted(compiled[CHIPS[0]]) == sorted(KERNELS)


@pytest.mark.parametrize("chip", CHIPS)
def test_a_kernel_becomes_machine_code(compiled, chip):
    """PTX for just this chip, and an ELF file that NVIDIA's linker makes of it."""
    for kernel, facts in compiled[chip].items():
        assert facts["target"] == chip, kernel
        assert facts["elf_bytes"] > 1000, kernel
        assert facts["doubles"] == 0, "float64 arithmetic runs at a 64th of the speed on most GPUs"

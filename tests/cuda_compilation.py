"""Compile every GPU kernel for each chip in ``$CHIPS`` without a GPU: NVVM to PTX, then to an ELF.

Prints JSON: chip, kernel, facts. A program of its own, so that nothing it loads stays.
"""

import json
import os
import re

from cuda.bindings import nvjitlink
from numba import cuda, float32, int16, int32, int64, types, uint8

from viscera.segment import cuda_kernels
from viscera.volume import cuda_kernels as cuda_volume

TRIPLE = types.UniTuple(int64, 3)
RING, VOLUME, PLANES = float32[:, :, :, ::1], float32[:, :, ::1], uint8[:, :, ::1]
VECTOR = float32[::1]
TABLES = (int64[::1], int64[::1], VECTOR) * 3
KERNELS = {
    "gather": (cuda_kernels.gather_thread, (RING, TRIPLE, TRIPLE, RING)),
    "accumulate": (cuda_kernels.accumulate_thread, (RING, *[TRIPLE] * 4, *[VECTOR] * 3, RING)),
    "mark_above": (
        cuda_kernels.mark_above_thread,
        (RING, int64[:, ::1], int64[:, ::1], float32, uint8[::1]),
    ),
    "clear": (cuda_kernels.clear_thread, (RING, int64, int64)),
    "find_winners": (cuda_kernels.find_winners_thread, (RING, int64, int64, PLANES, int32[::1])),
    "restore": (cuda_kernels.restore_thread, (RING, PLANES, *TABLES, PLANES)),
    "resample": (
        cuda_volume.resample_thread,
        (int16[:, :, ::1], *TABLES, *[float32] * 4, VOLUME),
    ),
    "spline": (
        cuda_volume.spline_thread,
        (
            *(int16[:, :, ::1], int64, int64[::1], float32[:, ::1], *[float32] * 4),
            *(int64, VECTOR, VECTOR, VOLUME),
        ),
    ),
    "extremes": (
        cuda_volume.extremes_thread,
        (int16[:, :, ::1], int64, float32[:, ::1], float32[:, ::1]),
    ),
    "scale": (cuda_volume.scale_thread, (VOLUME, *[float32] * 4)),
    "scale_within": (
        cuda_volume.scale_within_thread,
        (int16[:, :, ::1], PLANES, *[float32] * 4, VOLUME),
    ),
}


def facts(kernel, signature, chip):
    digits = chip.removeprefix("sm_")
    capability = (int(digits[:-1]), int(digits[-1]))
    ptx, _ = cuda.compile(kernel, signature, cc=capability, device=False, abi="numba", output="ptx")
    return {
        "target": re.search(r"^\.target (\w+)", ptx, re.MULTILINE)[1],
        "doubles": len(re.findall(r"\.f64\b", re.sub(r"^\s*\.reg.*$", "", ptx, flags=re.M))),
        "elf_bytes": len(linked(ptx.encode(), chip)),
    }


def linked(ptx, chip):
    handle = nvjitlink.create(1, [f"-arch={chip}"])
    nvjitlink.add_data(handle, nvjitlink.InputType.PTX, ptx, len(ptx), "kernel")
    nvjitlink.complete(handle)
    elf = bytearray(nvjitlink.get_linked_cubin_size(handle))
    nvjitlink.get_linked_cubin(handle, elf)
    nvjitlink.destroy(handle)
    assert elf[:4] == b"\x7fELF"
    return elf


if __name__ == "__main__":
    chips = os.environ["CHIPS"].split()
    print(
        json.dumps(
            {
                chip: {name: facts(*kernel, chip) for name, kernel in KERNELS.items()}
                for chip in chips
            }
        )
    )

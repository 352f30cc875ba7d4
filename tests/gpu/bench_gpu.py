"""Seconds a stage on a GPU, beside the peer that torch is; for a machine that has one.

Two plans over one CT of 300 slices of 512 x 512 (1.0 x 0.8 x 0.8 mm), nnU-Net's PlainConvUNet with
32..320 features, 16 outputs and random weights: AMOS's (patch 64x160x160 at 2.0x0.69x0.69 mm, 196
tiles) and 1.5 mm with 128 cubed (48 tiles). The torch engine needs nothing but torch; the shipped
network goes through every engine that is installed. The peer is torch's sliding window under
autocast with nnU-Net's way around it on the CPU: cubic input, logits in host memory, trilinear.

``--smoke`` runs the code on a small volume and network; its numbers mean nothing.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numba import cuda
from torch_engine import PlainUNet, TorchEngine

from segment_fakes import make_model
from viscera.domain.models import Normalisation, NormalisationScheme, Order
from viscera.segment import segment
from viscera.segment.driver import probe_gpu
from viscera.segment.tiles import TileGrid
from viscera.segment.weights import gaussian
from viscera.volume.device import image_on_device
from viscera.volume.normalise import scaling_of
from viscera.volume.upload import upload

ROUNDS = 3
CT = Normalisation(scheme=NormalisationScheme.CT, lower=-991, upper=362, mean=50, sd=141)
PLANS = {
    "amos": {
        "source": (300, 512, 512),
        "shape": (150, 594, 594),
        "patch": (64, 160, 160),
        "strides": [(1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)],
    },
    "cube": {
        "source": (300, 512, 512),
        "shape": (200, 273, 273),
        "patch": (128, 128, 128),
        "strides": [(1, 1, 1), *[(2, 2, 2)] * 5],
    },
}
SMOKE = {
    "smoke": {
        "source": (40, 60, 70),
        "shape": (30, 50, 60),
        "patch": (16, 32, 32),
        "strides": [(1, 1, 1), (2, 2, 2), (2, 2, 2)],
    }
}


def body(shape):
    """Noise in a body: int16 HU, the same every time."""
    rng = np.random.default_rng(0)
    z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    inside = (y[:, None] ** 2 + x**2 < 0.7)[None] & (np.abs(z) < 2)[:, None, None]
    noise = rng.integers(-80, 80, shape, np.int16)
    return np.where(inside, noise + np.int16(40), np.int16(-1000))


def seconds_of(run):
    """Return the seconds of the best of `ROUNDS`, after one that does not count."""
    run()
    taken = []
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return min(taken)


def ours(source, plan, engine, model):
    """Return seconds by stage, and the label map."""
    labels = label_map(source, plan, engine, model)
    tiles = len(TileGrid.cover(plan["shape"], plan["patch"], 0.5))

    def network():
        for _ in range(-(-tiles // engine.tile_batch)):
            engine.enqueue(engine.tile_batch)
        engine.stream.synchronize()

    stages = {
        "total": lambda: label_map(source, plan, engine, model),
        "input": lambda: prepared(source, plan, engine),
        "network": network,
        "input, linear": lambda: prepared(source, plan, engine, order=1),
        "upload": lambda: upload(source, engine.stream),
        "upload, pageable": lambda: cuda.to_device(source, stream=engine.stream),
    }
    found = {name: seconds_of(run) for name, run in stages.items()}
    found["around"] = found["total"] - found["input"] - found["network"]
    return found, labels


def prepared(source, plan, engine, order=3):
    """Return the network's input, on the device."""
    given = ([source], plan["shape"], (order,) * 3, [CT], Order.NORMALISE_FIRST, None)
    return image_on_device(*given, engine.stream)


def label_map(source, plan, engine, model):
    """From the volume in host memory to the label map there."""
    labels = np.empty(plan["source"], np.uint8)
    segment(prepared(source, plan, engine), model, engine, labels, lambda done: None)
    return labels


def peer(source, plan, network):
    """Return seconds by stage of nnU-Net's way, once, and the label map."""
    from skimage.transform import resize

    start = time.perf_counter()
    scaled = scaling_of(CT, source).apply(source)
    image = resize(scaled, plan["shape"], order=3, mode="edge", anti_aliasing=False, clip=True)
    prepared = time.perf_counter()
    logits = window(torch.from_numpy(image.astype(np.float32))[None], plan, network)
    logits = logits.float().cpu().numpy()
    ran = time.perf_counter()
    best = np.full(plan["source"], -np.inf, np.float32)
    labels = np.zeros(plan["source"], np.uint8)
    for k, one in enumerate(logits):
        large = resize(one, plan["source"], order=1, mode="edge", anti_aliasing=False, clip=True)
        better = large > best
        best[better], labels[better] = large[better], k
    end = time.perf_counter()
    stages = {"input": prepared - start, "network": ran - prepared, "restore": end - ran}
    return stages | {"total": end - start}, labels


@torch.inference_mode()
def window(image, plan, network, *, half=True):
    """Return blended logits on the model's grid, on the GPU: half precision sums, as nnU-Net's."""
    tiles = TileGrid.cover(plan["shape"], plan["patch"], 0.5)
    z, y, x = (torch.from_numpy(gaussian(n)).float().cuda() for n in plan["patch"])
    weight = z[:, None, None] * y[:, None] * x
    kind = torch.float16 if half else torch.float32
    total = torch.zeros((16, *plan["shape"]), dtype=kind, device="cuda")
    count = torch.zeros(plan["shape"], dtype=torch.float32, device="cuda")
    image = image.cuda()
    network = network.eval().cuda()
    for tile in tiles:
        place = tuple(slice(s, s + n) for s, n in zip(tile.start, plan["patch"], strict=True))
        with torch.autocast("cuda", torch.float16, enabled=half):
            answer = network(image[(None, slice(None), *place)])[0]
        total[(slice(None), *place)] += (answer.float() * weight).to(kind)
        count[place] += weight
    return total / count


def flops_of(network, patch):
    """Return multiply-adds x 2 of one tile, counted by hooks on convolutions."""
    total = 0

    def count(layer, taken, given):
        nonlocal total
        window = np.prod(layer.kernel_size)
        if isinstance(layer, torch.nn.ConvTranspose3d):
            total += 2 * taken[0].numel() * layer.out_channels * window
        else:
            total += 2 * given.numel() * layer.in_channels * window

    kinds = (torch.nn.Conv3d, torch.nn.ConvTranspose3d)
    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, kinds)]
    with torch.inference_mode(), torch.autocast("cuda", torch.float16):
        network.eval().cuda()(torch.zeros((1, 1, *patch), device="cuda"))
    for hook in hooks:
        hook.remove()
    return int(total)


def matrix_rate():
    """Return FLOP/s of a half-precision product of 8192 cubed on random data."""
    a, b = (torch.randn(8192, 8192, dtype=torch.float16, device="cuda") for _ in range(2))
    return 2 * 8192**3 / seconds_of(lambda: a @ b)


def measure(name, plan, features, tile_batch, with_peer):
    """Return one plan's row."""
    torch.manual_seed(0)
    network = PlainUNet(plan["strides"], features)
    flops = flops_of(network, plan["patch"]) * len(
        TileGrid.cover(plan["shape"], plan["patch"], 0.5)
    )
    model = make_model(labels=15, patch=plan["patch"])
    source = body(plan["source"])
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    exact = TorchEngine(network, model, 1, half=False)
    expected = label_map(source, plan, exact, model)
    exact.close()
    torch.cuda.empty_cache()
    free = cuda.current_context().get_memory_info()[0]
    engine = TorchEngine(network, model, tile_batch, half=True)
    stages, labels = ours(source, plan, engine, model)
    row = {
        "plan": name,
        "engine": engine.name,
        "seconds": stages,
        "agreement_with_float32_on_this_gpu": float(np.mean(labels == expected)),
        "peak_gpu_bytes": free - cuda.current_context().get_memory_info()[0],
        "flops": flops,
    }
    engine.close()
    torch.cuda.empty_cache()
    if with_peer:
        torch.cuda.reset_peak_memory_stats()
        row["peer_seconds"], theirs = peer(source, plan, network)
        row["peer_peak_gpu_bytes"] = torch.cuda.max_memory_allocated()
        row["ratio"] = row["peer_seconds"]["total"] / stages["total"]
        row["agreement_with_peer"] = float(np.mean(labels == theirs))
    return row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("bench-gpu.json"))
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--tile-batch", type=int, default=2)
    parser.add_argument("--no-peer", action="store_true")
    given = parser.parse_args()
    report = {
        "gpu": asdict(probe_gpu()),
        "torch": torch.__version__,
        "not_measured": [
            "nnUNetPredictor itself: nnunetv2 is not on this machine",
            "the AMOS-sized network through ONNX Runtime and TensorRT: torch's engine alone",
        ],
        "rows": [],
    }
    features = (8, 16, 32) if given.smoke else (32, 64, 128, 256, 320, 320)
    rate = matrix_rate()
    for name, plan in (SMOKE if given.smoke else PLANS).items():
        row = measure(name, plan, features, given.tile_batch, not given.no_peer)
        row["floor_seconds"] = row["flops"] / rate
        report["rows"].append(row)
        # After each row: a call that is cut off keeps what it has.
        given.out.write_text(json.dumps(report | {"matrix_flops_per_second": rate}, indent=1))
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

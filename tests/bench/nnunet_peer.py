"""One volume through `nnUNetPredictor` on the CPU; a line of JSON. See `bench_nnunet.py`."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


def main(case: Path, threads: int) -> None:
    """Write ``peer.npy``; print seconds of all, of the network, and the process' peak."""
    torch.set_num_threads(threads)
    predictor = nnUNetPredictor(
        use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False, verbose=False
    )
    predictor.initialize_from_trained_model_folder(str(case / "folder"), (0,))
    pixels, properties = SimpleITKIO().read_images([str(case / "image.nii.gz")])
    network, spent = predictor.network.eval(), [0.0]
    patch = predictor.configuration_manager.patch_size
    with torch.inference_mode():
        network(torch.zeros(1, 1, *patch))
    network.register_forward_pre_hook(lambda *_: spent.append(-time.perf_counter()))
    network.register_forward_hook(lambda *_: spent.append(time.perf_counter()))
    start, cpu = time.perf_counter(), time.process_time()
    labels = predictor.predict_single_npy_array(pixels, properties, None, None, False)
    seconds = {
        "all": time.perf_counter() - start,
        "network": sum(spent),
        "cpu": time.process_time() - cpu,
    }
    np.save(case / "peer.npy", labels)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

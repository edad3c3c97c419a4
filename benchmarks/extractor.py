"""EfficientNet-Lite0 beside onnxruntime with the same network: `python -m benchmarks.extractor`.

Both in seconds of the processor and by the clock, with as many threads as torch has. Without the packages onnx and
onnxruntime the second line is left out. `--keep` writes the figures for PHOTOS.md.
"""

import argparse
import io
import json
import os
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.photos.page import KEPT
from metalearn_cli.extractors import Extractor, efficientnet_lite
from metalearn_cli.runtime.data.extraction import extracted_features

Pictures = NDArray[np.uint8]
_AT_ONCE = 16


def main() -> None:
    """Print a line for each of the two, and how far their features are apart."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extractor", description=__doc__)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    extractor = efficientnet_lite.build(efficientnet_lite.Config())
    side = extractor.preprocessing.height
    pictures = np.random.default_rng(0).integers(0, 256, (options.pictures, side, side, 3), dtype=np.uint8)
    kept: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "pictures": options.pictures,
    }
    ours, kept["metalearn"] = measured("metalearn", lambda some: extracted_features(some, extractor).numpy(), pictures)
    if find_spec("onnxruntime") is None or find_spec("onnx") is None:
        print("onnxruntime: not installed (onnx, onnxruntime)")
        return
    theirs, kept["onnxruntime"] = measured("onnxruntime", by_onnxruntime(extractor), pictures)
    if options.keep:
        KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    print(f"largest difference of a feature {np.abs(ours - theirs).max():.1e}")


def measured(
    name: str, run: Callable[[Pictures], NDArray[np.float32]], pictures: Pictures
) -> tuple[NDArray[np.float32], dict[str, float]]:
    """What `run` gives, and how long it took the second time, of which a line tells."""
    run(pictures)
    begun, clock = time.process_time(), time.perf_counter()
    found = run(pictures)
    spent, waited = time.process_time() - begun, time.perf_counter() - clock
    each = 1000 * spent / len(pictures)
    print(f"{name:12} {each:6.1f} ms of a processor for a picture, {len(pictures) / waited:6.1f} pictures a second")
    return found, {"processor_ms": round(each, 1), "pictures_per_second": round(len(pictures) / waited, 1)}


def by_onnxruntime(extractor: Extractor) -> Callable[[Pictures], NDArray[np.float32]]:
    """The same network in onnxruntime, with as many threads as torch has."""
    import onnxruntime

    seen, program = extractor.preprocessing, io.BytesIO()
    example = torch.zeros(_AT_ONCE, 3, seen.height, seen.width)
    with warnings.catch_warnings(action="ignore"):  # of sizes that are constants, as they are here
        torch.onnx.export(
            extractor.module, (example,), program, input_names=["pixels"], dynamic_axes={"pixels": {0: "n"}},
            dynamo=False,
        )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(program.getvalue(), options, providers=["CPUExecutionProvider"])
    mean, std = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in (seen.mean, seen.std))

    def run(pictures: Pictures) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(pictures), _AT_ONCE):
            pixels = pictures[start : start + _AT_ONCE].transpose(0, 3, 1, 2).astype(np.float32) / 255
            parts.append(session.run(None, {"pixels": (pixels - mean) / std})[0])
        return np.concatenate(parts)

    return run


if __name__ == "__main__":
    main()

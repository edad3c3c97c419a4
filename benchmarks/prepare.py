"""How fast pictures become a dataset: `python -m benchmarks.prepare [--omniglot DIR]`.

A made-up miniImageNet with all its 60,000 names (84 x 84 JPEGs) is prepared by the real command, in turns with a plain
Pillow loop over the same files in one process; so are 3,000 photos of ImageNet's size. Medians of three rounds, with
the lowest and the highest; peak memory is that of the command's largest process. Opening is timed on the store.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from metalearn_cli.datasets.layouts import shipped_rows
from metalearn_cli.storage.prepared.dataset import open_prepared

ROUNDS = 3
COMMAND = (sys.executable, "-m", "metalearn_cli", "prepare")
# In a process of its own: a process hands its peak memory on to those that it starts.
LOOP = (sys.executable, "-m", "benchmarks.prepare", "--loop")
MINI = ("miniimagenet", "--set", "dataset.accept_terms=true")
PHOTOS = ("folder", "--set", "dataset.title=photos")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--omniglot", type=Path, help="A folder with Omniglot's two zips.")
    parser.add_argument("--loop", type=Path, help="Only the plain loop over this folder; prints its seconds.")
    omniglot, loop_over = parser.parse_args().omniglot, parser.parse_args().loop
    if loop_over is not None:
        print(seconds(lambda: plainly([*loop_over.rglob("*.*")])))
        return
    print(f"{os.cpu_count()} cores\n\n| pictures | command, per s | Pillow loop, per s | ratio | seconds | peak |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        mini = written(folder / "mini", miniimagenet())
        photos = written(folder / "photos", large_photos())
        row("60,000 JPEGs of 84 x 84", (*MINI, "--source", str(mini)), folder, mini)
        row("3,000 JPEGs of 500 x 375", (*PHOTOS, "--source", str(photos)), folder, photos)
        if omniglot is not None:
            row("32,460 drawings in zips (Omniglot)", ("omniglot", "--source", str(omniglot)), folder, None, 32_460)
        store = folder / "data" / "miniimagenet-84"
        opened = sorted(seconds(lambda: open_prepared(store)) for _ in range(21))
        print(f"\nOpening the 60,000 pictures: {spread([1e3 * one for one in opened], 1)} ms")


def row(name: str, arguments: tuple[str, ...], folder: Path, source: Path | None, count: int = 0) -> None:
    """Print one row: the command in turns with the loop."""
    count = sum(1 for _file in source.rglob("*.*")) if source is not None else count
    ours, loop, peak = [], [], 0.0
    for _ in range(ROUNDS):
        started = time.perf_counter()
        peak = max(peak, prepared(arguments, folder))
        ours.append(count / (time.perf_counter() - started))
        if source is not None:
            loop.append(count / float(subprocess.check_output([*LOOP, str(source)])))
    ratios = [one / other for one, other in zip(ours, loop, strict=True)] if loop else []
    taken = f"{count / statistics.median(ours):.1f}"
    print(f"| {name} | {spread(ours)} | {spread(loop)} | {spread(ratios, 2)} | {taken} | {peak:,.0f} MB |", flush=True)


def prepared(arguments: tuple[str, ...], folder: Path) -> float:
    """The real command, from the start; the peak memory of its largest process in MB."""
    command = [*COMMAND, *arguments, "--force", "--quiet", "--data-dir", str(folder / "data")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss / 1024


def plainly(files: list[Path]) -> None:
    """What a script would do: one picture after the other, its middle square, resized, into one array."""
    array = np.empty((len(files), 84, 84, 3), np.uint8)
    for place, file in enumerate(files):
        with Image.open(file) as picture:
            square = ImageOps.fit(picture.convert("RGB"), (84, 84), Image.Resampling.BILINEAR)
            array[place] = np.asarray(square)


def miniimagenet() -> Iterator[tuple[str, bytes]]:
    """All 60,000 names of miniImageNet with soft noise for pictures."""
    pictures = [jpeg(number, (84, 84)) for number in range(500)]
    for wnid, _part, pairs in shipped_rows("miniimagenet_ravi.tsv.gz"):
        for pair in pairs.split():
            rank = int(pair.split(":")[0])
            yield f"images/{wnid}{rank:08}.jpg", pictures[rank % 500]


def large_photos() -> Iterator[tuple[str, bytes]]:
    """Thirty classes of a hundred photos each."""
    pictures = [jpeg(number, (500, 375)) for number in range(50)]
    return ((f"class{place:02}/{number}.jpg", pictures[number % 50]) for place in range(30) for number in range(100))


def jpeg(seed: int, size: tuple[int, int]) -> bytes:
    """A JPEG about as detailed as a photo."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 4, size[0] // 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def written(folder: Path, members: Iterator[tuple[str, bytes]]) -> Path:
    """The folder, filled."""
    for name, content in members:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def seconds(work: Callable[[], object]) -> float:
    """How long it took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def spread(values: list[float], digits: int = 0) -> str:
    """Median, lowest and highest."""
    if not values:
        return "-"
    shown = [f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values))]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


if __name__ == "__main__":
    main()

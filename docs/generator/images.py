"""Writes docs/images from a real first run: its lines in a terminal as SVG, and its report as a browser shows it.

python -m docs.generator.images    (some minutes; needs the extra `report`, and chromium on the path)

Everything shown is what the commands wrote; nothing is typed in by hand.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).parent.parent / "images"
_CHECKPOINT = "runs/quickstart/checkpoints/best.pt"
_COMMANDS = ("metalearn train quickstart", f"metalearn eval --checkpoint {_CHECKPOINT}")
_COLUMNS = 96
_PAGE = (1000, 1340)
"""Width and height of the part of the report that is pictured."""


def terminal(folder: Path) -> str:
    """The commands and all that they print, as SVG."""
    console = Console(record=True, width=_COLUMNS, file=(folder / "shown").open("w"), force_terminal=True)
    environment = os.environ | {"COLUMNS": str(_COLUMNS), "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    for command in _COMMANDS:
        words = [sys.executable, "-m", "metalearn_cli", *shlex.split(command)[1:]]
        done = subprocess.run(words, cwd=folder, env=environment, text=True, stdout=-1, stderr=subprocess.STDOUT)
        if done.returncode:
            raise SystemExit(done.stdout)
        console.print(Text(f"$ {command}", style="bold"))
        for line in done.stdout.splitlines():
            if not re.match(r"(report|episodes) \d+/", line):  # progress, which a terminal shows as a bar
                console.print(Text(line))
    # Without the fonts that rich would have fetched from elsewhere.
    template = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title="metalearn", code_format=template)


def report(folder: Path, picture: Path) -> None:
    """The upper part of the run's report, in few enough colours to be small."""
    page, width, height = folder / "runs/quickstart/report.html", *_PAGE
    window = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={width},{height}"]
    subprocess.run(["chromium", *window, f"--screenshot={picture}", page.as_uri()], check=True, capture_output=True)
    Image.open(picture).convert("RGB").quantize(128).save(picture, optimize=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        (IMAGES / "terminal.svg").write_text(terminal(Path(place)))
        report(Path(place), IMAGES / "report.png")

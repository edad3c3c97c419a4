"""A real browser reads the pages, where there is one."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from metalearn_cli.report.page import Html, page

pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra metalearn-cli[report])")
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def complaints(tmp_path_factory) -> Callable[[Path], list[str]]:
    """What the browser writes to its console about a file."""
    browser = next((found for name in NAMES if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser here: none of {', '.join(NAMES)}")
    profile = tmp_path_factory.mktemp("browser")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]

    def of(file: Path) -> list[str]:
        command = [browser, "--headless=new", *quiet, f"--user-data-dir={profile}", "--enable-logging=stderr"]
        done = subprocess.run([*command, "--dump-dom", file.as_uri()], capture_output=True, text=True, timeout=100)
        if done.returncode or "</html>" not in done.stdout:
            pytest.skip(f"{browser} does not run here: {done.stderr[-200:]}")
        return [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return of


def test_a_browser_finds_nothing_to_complain_of(complaints, tiny_run):
    assert complaints(tiny_run / "report.html") == []


def test_the_browser_would_have_blocked_what_a_page_must_not_do(complaints, tmp_path):
    hostile = Html('<script>document.title = "x"</script><img src="http://127.0.0.1:9/x.png">')
    (tmp_path / "hostile.html").write_bytes(page("title", "", [hostile]))
    said = "\n".join(complaints(tmp_path / "hostile.html"))
    assert "script violates" in said
    assert "image 'http://127.0.0.1:9/x.png' violates" in said

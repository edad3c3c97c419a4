"""The site is built without a warning, and needs nothing from elsewhere to be read."""

import os
import re
import subprocess
import sys

import pytest

import metalearn_cli
from tests.commands import ROOT

pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install 'metalearn-cli[docs]'")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_of_docs_is_in_the_navigation(site):
    start = (site / "index.html").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem == "index" or f'href="{page.stem}/"' in start, page.name


def test_links_to_files_outside_docs_lead_to_pages_of_the_site(site):
    text = (site / "execution/index.html").read_text()
    assert 'href="../benchmarks/RESULTS/"' in text
    assert (site / "benchmarks/RESULTS/index.html").exists()


def test_docstrings_are_shown_with_examples_as_code_and_entries_as_lists(site):
    text = (site / "api/index.html").read_text()
    assert "<blockquote>" not in text  # what Markdown makes of >>>
    assert text.count('<span class="gp">&gt;&gt;&gt; </span>') > 20
    assert "<li><code>ways</code>: the number of classes." in text


def test_every_public_name_is_on_the_page_of_names(site):
    text = (site / "api/index.html").read_text()
    assert [name for name in metalearn_cli.__all__ if not re.search(rf'id="metalearn_cli[\w.]*\.{name}"', text)] == []


def test_no_page_loads_anything_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^\s>]*", page.read_text()
        )
        assert loaded == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet

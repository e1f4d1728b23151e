"""The site of docs/: it builds strictly, needs no network, and its checks notice the faults that they are meant for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import esans_core
from infra.docs_site import links, reference, settings_page
from jobs.base.settings import PipelineSettings

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_site_builds_strictly_and_needs_no_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for path in tmp_path.rglob("*.html"):
        page = path.read_text()
        assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"https?://[^\"]*", page), path
        assert 'class="mermaid"' not in page, f"{path}: the script that draws this comes from the network"
    assert (tmp_path / "index.html").exists() and (tmp_path / "reference" / "library.html").exists()


def test_everything_exported_is_on_the_reference_and_documented() -> None:
    assert list(reference.complaints((ROOT / "docs" / reference.PAGE).read_text())) == []


def test_a_name_that_is_missing_or_not_exported_is_noticed() -> None:
    page = (ROOT / "docs" / reference.PAGE).read_text()
    name = esans_core.__all__[0]
    without = page.replace(f"::: esans_core.{name}\n", "")
    assert any(name in complaint for complaint in reference.complaints(without))
    assert any("Nonsense" in complaint for complaint in reference.complaints(page + "\n::: esans_core.Nonsense\n"))


def test_links_lead_to_pages_of_the_site_and_other_files_are_named() -> None:
    assert links.for_site("[a](docs/serving.md#one) ![b](docs/images/scale.png)", "index.md") == (
        "[a](serving.md#one) ![b](images/scale.png)"
    )
    assert links.for_site("[infra](../../infra/README.md)", "results/speed.md") == "[infra](../infra/index.md)"
    assert links.for_site("[numbers](../../benchmarks/results/speed.json)", "results/speed.md") == (
        "numbers (`benchmarks/results/speed.json`)"
    )
    kept = "```python\nx[0](y)\n```\n"
    assert links.for_site(kept, "index.md") == kept


def test_a_dead_link_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    links.for_site("[gone](docs/gone.md)", "index.md")
    assert "docs/gone.md, which does not exist" in caplog.text


def test_every_setting_is_on_its_page() -> None:
    page = settings_page.page()
    for name in PipelineSettings().flat():
        assert f"| `{name}` |" in page

"""What is kept of a run for the pages."""

import struct
from pathlib import Path

import pytest

from benchmarks.record_run import take_picture, without_paths


def test_paths_of_this_machine_are_cut_short(tmp_path: Path) -> None:
    home = tmp_path / "embedded"
    found = without_paths({"report": f"{home}/reports/index.html", "of": ["/data/shop", 3]}, home)
    assert found == {"report": "var/embedded/reports/index.html", "of": ["shop", 3]}


@pytest.mark.browser
def test_the_head_of_a_report_is_kept_as_a_picture(tmp_path: Path) -> None:
    report = tmp_path / "index.html"
    report.write_text("<h1>a report</h1>" + "<p>line</p>" * 500)
    take_picture(report, tmp_path / "report.png")
    head = (tmp_path / "report.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", head[16:]) == (1_100, 1_000)

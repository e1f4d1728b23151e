from pathlib import Path

from jobs.source import contract


def test_the_page_says_what_the_code_enforces() -> None:
    page = Path(__file__).parents[3] / "docs" / "data-contract.md"
    assert page.read_text() == contract.page(), "run: python -m jobs.source.contract > docs/data-contract.md"

from pathlib import Path

from jobs.landing import contract_page


def test_the_page_says_what_the_code_enforces() -> None:
    page = Path(__file__).parents[3] / "docs" / "data-contract.md"
    assert page.read_text() == contract_page.page(), "run: python -m jobs.landing.contract_page > docs/data-contract.md"

"""The words of a verdict: each that is made or shown is on the list that the metrics file counts."""

from jobs.base import verdicts
from jobs.pages.words import verdict_text


def test_every_word_is_in_the_list_and_has_a_line_of_its_own_in_the_summary() -> None:
    words = [value for name, value in vars(verdicts).items() if name.isupper() and isinstance(value, str)]
    assert sorted(words) == sorted(verdicts.VERDICTS)
    assert len(set(words)) == len(words)
    for word in set(words) - {verdicts.PROMOTED}:
        unknown = word.replace("_", " ").upper()  # how a word is shown that has no line of its own
        assert not verdict_text({"verdict": word, "version": "2", "champion_version": "1"}).startswith(f"{unknown}:")

"""Which words of a text are a user's id, and which are not."""

import html
import json

import pytest

from jobs.forget.texts import GONE, UserText

ODD = [
    "u000123",
    "ann@example.org",
    "Jörg Müller-9",
    "../../etc/passwd1",
    "-rf *9",
    'O\'Brien "7" & <b>',
    "a\\nb1",
    "x\ty1",
    "{{ user }}7",
    "50%_x",
]


@pytest.mark.parametrize("user_id", ODD)
def test_an_id_goes_as_it_is_written_in_texts_pages_and_json(user_id: str) -> None:
    text = UserText(user_id)
    assert text.distinctive
    lines = [
        f"row 5, user_id {user_id}, item_id i3",
        html.escape(f"<td>{user_id}</td>"),
        json.dumps({"event": f"seen\n{user_id}\n"}),
        json.dumps({"event": f"seen {user_id}"}, ensure_ascii=False),
        json.dumps({"files": json.dumps({"message": f"seen {user_id}."})}),
        f"user {user_id!r}",
    ]
    for line in lines:
        cleaned = text.without(line.encode()).decode()
        assert GONE in cleaned and not text.might_be_in(cleaned.encode()), line
    for line in lines[2:5]:
        json.loads(text.without(line.encode()))  # what was JSON is JSON
    assert text.without_in({"examples": [user_id], "message": f"seen {user_id}"}) == {
        "examples": [GONE],
        "message": f"seen {GONE}",
    }


def test_a_part_of_a_longer_word_is_another_word() -> None:
    text = UserText("u00012")
    for line in ("u000123", "xu00012", "u00012_b", "üu00012", "u00012ß"):
        assert text.without(line.encode()).decode() == line
    assert text.without(b"u00012, (u00012) u00012-b /u00012/").decode() == f"{GONE}, ({GONE}) {GONE}-b /{GONE}/"


@pytest.mark.parametrize("user_id", ["7", "success", "2026-01-28", "train_challenger", "a1"])
def test_a_word_that_may_mean_something_else_goes_only_where_it_stands_as_a_users_id(user_id: str) -> None:
    text = UserText(user_id)
    assert not text.distinctive
    record = {"state": user_id, "version": user_id, "message": f"{user_id} of 12 rows on {user_id}", "checked": 7}
    assert text.without_in(record) == record
    failure = {"message": f"such as row 7, user_id {user_id}, item_id i7", "examples": [user_id], "user_id": user_id}
    found = text.without_in(failure)
    assert found == {"message": f"such as row 7, user_id {GONE}, item_id i7", "examples": [GONE], "user_id": GONE}
    for line in (f"(user_id = {user_id})", f'"user_id": "{user_id}"', f"<td>user_id</td><td><code>{user_id}</code></td>"):
        assert GONE in text.without(line.encode()).decode()
        assert not UserText(user_id + "0").without(line.encode()).decode().count(GONE)


def test_words_that_steps_read_stay_even_if_somebody_has_such_an_id() -> None:
    text = UserText("model-v1")
    assert text.distinctive
    assert text.without_in({"name": "model-v1", "path": "/x/model-v1"}) == {"name": "model-v1", "path": "/x/model-v1"}
    assert UserText("7").without_in({"user_id": 7, "rows": 7}) == {"user_id": GONE, "rows": 7}

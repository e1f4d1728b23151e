"""Takes a user's id out of texts: pages, logs, records and databases.

An id may be any string, so it is never used as a pattern by itself. Two kinds of ids are told apart. A *distinctive* one, such
as `u000123` or `ann@example.org`, is taken out wherever it stands as a whole word. One that may as well be a plain word or a
number, such as `7` or `success`, is taken out only where it stands as a user's id, because records and databases hold the same
word with another meaning, which steps read.
"""

import html
import json
import re
from collections.abc import Iterator
from typing import Any

GONE = "(forgotten)"
_SHORTEST = 4  # characters of a distinctive id
# Keys under which records and the form hold an id, and nothing but the id.
_OF_A_USER = frozenset({"user", "user_id"})
_OF_EXAMPLES = ("unexpected", "examples")  # parts of the names of lists of values that broke an expectation
# A word begins after anything that is no letter, digit or underscore, or after an escape such as the \n of a line in JSON.
_BEGIN, _END = rb"(?:(?<=\\[nrtbf])|(?<![\w\x80-\xff]))", rb"(?![\w\x80-\xff])"
# What leads up to a user's id in messages, JSON and tables: `user_id 7`, `user_id = 7`, `"user_id": "7"`, `user_id</td><td>7`.
_LEAD = _BEGIN + rb"user_id" + _END + rb"(?:[^\w\x80-\xff<]|<[^>]*>){1,24}"


class UserText:
    """Recognises one user's id in texts.

    Args:
        user_id: the id.

    Attributes:
        distinctive: whether the id is taken out wherever it stands as a word.
    """

    def __init__(self, user_id: str) -> None:
        self._id = user_id
        self.distinctive = _is_distinctive(user_id)
        self._written = sorted({form.encode() for form in _forms(user_id)}, key=len, reverse=True)
        word = b"(" + b"|".join(re.escape(form) for form in self._written) + b")"
        self._pattern = re.compile((_BEGIN if self.distinctive else _LEAD) + word + _END)

    def might_be_in(self, content: Any) -> bool:
        """Whether bytes (or a map of a file) hold the id in any spelling, even as a part of a longer word."""
        return any(content.find(form) >= 0 for form in self._written)

    def places(self, content: Any) -> Iterator[tuple[int, int]]:
        """Where the id stands as a whole word in bytes (or a map of a file): start and end of each place."""
        for found in self._pattern.finditer(content):
            yield found.span(found.lastindex or 0)

    def without(self, content: bytes) -> bytes:
        """A text without the id."""
        parts, end = [], 0
        for start, stop in self.places(content):
            parts += [content[end:start], GONE.encode()]
            end = stop
        return b"".join([*parts, content[end:]])

    def without_in(self, value: Any, key: str = "", *, listed: bool = False) -> Any:
        """JSON values without the id. Keys stay, and so do words that steps read, such as `"state": "success"`.

        Args:
            value: JSON values.
            key: name under which the value stands.
            listed: whether the value belongs to a list of examples.
        """
        listed = listed or any(part in key for part in _OF_EXAMPLES)
        if isinstance(value, dict):
            return {name: self.without_in(inner, name, listed=listed) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.without_in(inner, key, listed=listed) for inner in value]
        if isinstance(value, int) and not isinstance(value, bool):
            return GONE if key == "user_id" and str(value) == self._id else value
        if not isinstance(value, str):
            return value
        if value == self._id:
            return GONE if listed or key in _OF_A_USER else value
        # What steps read is one word: a state, a digest, a path. What people read has blanks.
        return self.without_text(value) if any(mark in value for mark in " \n\t") else value

    def without_text(self, text: str) -> str:
        """A text without the id; JSON in it stays JSON."""
        if not self.might_be_in(content := text.encode()):
            return text
        if text.lstrip()[:1] in ("{", "["):
            try:
                values = json.loads(text)
            except ValueError:
                return self.without(content).decode()
            cleaned = self.without_in(values)
            return text if cleaned == values else json.dumps(cleaned)
        return self.without(content).decode()


def _is_distinctive(user_id: str) -> bool:
    """Whether an id is hardly anything else: long enough, and no plain word, number, date or name of a step."""
    letters = any(sign.isalpha() for sign in user_id)
    mixed = any(sign.isdigit() for sign in user_id) or any(not (sign.isalnum() or sign in "_-.") for sign in user_id)
    return len(user_id) >= _SHORTEST and letters and mixed


def _forms(user_id: str) -> set[str]:
    """An id as it is written in plain text, in JSON, in JSON within JSON, in HTML and as a Python literal."""
    forms = {user_id, repr(user_id)[1:-1], html.escape(user_id), html.escape(user_id).replace("&quot;", "&#34;")}
    forms.add(html.escape(user_id).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"))
    for plain in (True, False):
        once = json.dumps(user_id, ensure_ascii=plain)[1:-1]
        forms |= {once, json.dumps(once, ensure_ascii=plain)[1:-1]}
    return forms

"""What is seen in the rows of a part while it is landed, for messages, for the check before a run, and for the report."""

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.landing.conversion import Told
from jobs.landing.raw_rows import RawRows
from jobs.landing.records import EMPTY_LIST

_SAMPLES, _SAMPLE_LETTERS = 5, 80
_DAY, _LAST_DAY = 86_400, 47_482  # days since 1970 up to the end of 2099


@dataclass
class Seen:
    """What was seen in the rows so far."""

    rows_in: int = 0
    rows: int = 0
    days: Counter = field(default_factory=Counter)
    missing: Counter = field(default_factory=Counter)
    null_words: Counter = field(default_factory=Counter)
    unreadable: dict[str, tuple[int, str]] = field(default_factory=dict)
    samples: dict[str, list[str]] = field(default_factory=dict)
    left_out: Counter = field(default_factory=Counter)

    def add(self, columns: dict[str, pa.Array], told: dict[str, Told], raw: RawRows) -> None:
        """Count a batch: columns of the contract, what their conversion noticed, and the rows that they were made from."""
        self.rows_in += raw.rows_in
        self.rows += len(raw.numbers)
        self.left_out.update(raw.left_out)
        for name, values in columns.items():
            self.missing[name] += values.null_count
            kept = self.samples.setdefault(name, [])
            if len(kept) < _SAMPLES and not pa.types.is_binary(values.type):
                some = values.drop_null().slice(0, 1_000)
                some = some.slice(0, _SAMPLES) if pa.types.is_list(values.type) else pc.unique(some)
                texts = (str(value)[:_SAMPLE_LETTERS] for value in some.to_pylist())
                kept += [text for text in dict.fromkeys(texts) if text not in kept][: _SAMPLES - len(kept)]
            self.null_words[name] += told[name].null_words
            before, example = self.unreadable.get(name, (0, told[name].example))
            self.unreadable[name] = (before + told[name].unreadable, example or told[name].example)
        if (times := columns.get("timestamp")) is not None:
            numbers = times.drop_null().to_numpy() // _DAY
            for day, count in zip(
                *np.unique(numbers[(numbers >= 0) & (numbers <= _LAST_DAY)], return_counts=True), strict=True
            ):
                self.days[(dt.date(1970, 1, 1) + dt.timedelta(int(day))).isoformat()] += int(count)

    def told(self) -> list[str]:
        """One sentence for each thing that a person should know."""
        words = [
            f"one value of {name} was a word such as nan, None or NULL; it counts as missing."
            if count == 1
            else f"{count:,} values of {name} were words such as nan, None or NULL; they count as missing."
            for name, count in self.null_words.items()
            if count
        ]
        if empty := self.left_out[EMPTY_LIST]:
            words.append(
                "one row has an empty list where one is exploded; it gives no row."
                if empty == 1
                else f"{empty:,} rows have an empty list where one is exploded; they give no row."
            )
        for name, (count, example) in self.unreadable.items():
            example = example[:_SAMPLE_LETTERS]
            if count == 1:
                words.append(f"one value of {name} cannot be read: '{example}'. It counts as missing.")
            elif count:
                words.append(f"{count:,} values of {name} cannot be read, such as '{example}'; they count as missing.")
        return words

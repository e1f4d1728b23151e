"""The power of the promotion gate, and simulated years of it, as a result file and as the tables of docs/promotion.md.

python -m benchmarks.promotion              # simulate, in some minutes; writes benchmarks/results/promotion.json and the page
python -m benchmarks.promotion --pairs      # first train the pairs of models that it draws users from, in some minutes
"""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from benchmarks import pages
from benchmarks.promotion import pairs, simulate
from benchmarks.record import RESULTS, Row, write_result
from jobs.base.files import write_json
from jobs.base.settings import GateSettings

USERS, CHANGES, LOOKS = (1_000, 4_000, 16_000, 64_000), (-0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05), (1, 2, 7)
STORIES: tuple[simulate.Story, ...] = (
    "equal", "retrained", "half a per cent down", "one and a half per cent down", "ageing"
)  # fmt: skip
RULES: tuple[simulate.Rule, ...] = ("absolute", "relative", "anchored")
YEARS_USERS = (4_000, 16_000)
_NIGHTS, _RUNS, _SEED = 20_000, 2_000, 7
_PAIRS = RESULTS / "promotion_pairs.json"
_DRAWN_FROM = "age 0"  # two trainings of one day; they differ as an equal pair does


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", action="store_true", help="train the models anew")
    if parser.parse_args().pairs:
        write_json(_PAIRS, pairs.measure())
    measured = json.loads(_PAIRS.read_text())
    write_result("promotion", "python -m benchmarks.promotion", rows(measured))
    pages.main()


def rows(measured: dict[str, Any]) -> Iterator[Row]:
    """All rows that the tables show."""
    gate = GateSettings()
    margin, error_rate = gate.max_relative_loss, 1 - gate.confidence
    for name, counted in measured.items():
        users = sum(row[3] for row in counted)
        reached = [sum(row[3] * row[place] / row[0] for row in counted) / users for place in (1, 2)]
        subject = f"challenger against a champion of another seed, {name.removeprefix('age ')} days older"
        yield Row("embedded shop", subject, "recall_50 of the challenger", "share", reached[0], repeats=users)
        yield Row("embedded shop", subject, "change", "share", reached[0] / reached[1] - 1, repeats=users)
        yield Row("embedded shop", subject, "spread per user", "share", simulate.spread_per_user(counted), repeats=users)
    for users in USERS:
        for change in CHANGES:
            cells = simulate.pair_with_change(measured[_DRAWN_FROM], change)
            for look in LOOKS:
                passed = simulate.power(
                    cells, users, look=look, margin=margin, error_rate=error_rate, nights=_NIGHTS, seed=_SEED
                )
                yield Row(f"{users} users, look {look}", f"{change:+.2f}", "passes", "share", passed, repeats=_NIGHTS)
    spread = simulate.spread_per_user(measured[_DRAWN_FROM])
    for users in YEARS_USERS:
        for story in STORIES:
            for rule in RULES:
                found = simulate.years(
                    story,
                    rule,
                    error=spread / users**0.5,
                    margin=margin,
                    error_rate=error_rate,
                    runs=_RUNS,
                    seed=_SEED,
                )
                values = {
                    "promotions a year": found.promotions.mean(),
                    "lost in a year": found.lost.mean(),
                    "years that end more than the margin below the first champion": (found.lost > margin + 1e-12).mean(),
                    "bad promotions, of all and one": found.bad.sum() / (found.promotions.sum() + _RUNS),
                    "age of the champion": found.age.mean(),
                }
                for metric, value in values.items():
                    yield Row(f"{users} users, {story}", rule, metric, "", float(value), repeats=_RUNS)


if __name__ == "__main__":
    main()

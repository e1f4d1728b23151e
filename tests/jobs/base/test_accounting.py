"""What became of the rows of a source: everything that was read has one place, and what was not read is told, too."""

from pathlib import Path

from jobs.base.accounting import accounting, set_aside
from tests.jobs.landing.sources import landing, with_mapping

INGEST = {
    "rows_read": {"interactions": 100, "items": 9}, "events": {"train": 60, "validation": 5, "holdout": 10},
    "rejected": {"interactions": {"unknown_item": 4, "bot_user": 1}, "items": {}},
    "not_used": {"told_again": 15, "repeated_pair": 5, "later_than_date": 1_200},
}  # fmt: skip


def test_used_set_aside_and_not_used_are_all_that_was_read() -> None:
    assert accounting(INGEST) == [
        "of 100 events read, 75 were used, 5 set aside and 20 not used (told again 15, repeated pair 5)",
        "1,200 events after the date were left for later runs",
        "of 9 rows of items, 9 were used, 0 set aside and 0 not used",
    ]
    assert set_aside(INGEST) == [
        "interactions: 5 of 100 rows were set aside (unknown_item 4, bot_user 1)",
        "items: 0 of 9 rows were set aside",
    ]


def test_rows_of_the_other_tables_and_events_of_forgotten_users_are_told() -> None:
    unused = {"items": {"repeated_id": 4, "missing_id": 1}, "users": {"without_attribute": 2, "forgotten": 1}}
    rows = {"interactions": 100, "items": 15, "users": 1_010}
    rejected = INGEST["rejected"] | {"users": {"missing_id": 7}}
    told = accounting(INGEST | {"rows_read": rows, "unused_rows": unused, "rejected": rejected, "forgotten": 3})
    assert told[2:] == [
        "3 events of users who were forgotten were left out before that",
        "of 15 rows of items, 10 were used, 0 set aside and 5 not used (repeated id 4, missing id 1)",
        "of 1,010 rows of users, 1,000 were used, 7 set aside and 3 not used (without attribute 2, forgotten 1)",
    ]


def test_events_that_only_describe_users_are_told_apart() -> None:
    told = accounting(INGEST | {"targets": {"train": 20, "validation": 5, "holdout": 3}})
    assert told[1] == "28 of the 75 are what models learn to find, the others only describe users"
    assert accounting(INGEST | {"targets": INGEST["events"]}) == accounting(INGEST)


def test_what_the_mapping_leaves_out_is_told(settings, tmp_path: Path) -> None:
    lines = ['{"user_id": 1, "paid": 1, "of": [{"id": 3}, {"id": 4}], "timestamp": 1769601600}', '{"user_id": 2, "of": []}']
    lines.append('{"user_id": 2, "paid": 0, "of": [{"id": 3}], "timestamp": 1769601600}')
    (tmp_path / "interactions.jsonl").write_text("\n".join(lines))
    (tmp_path / "items.csv").write_text("item_id\n3\n4\n")
    yaml = "interactions: {explode: of, columns: {item_id: of.id}, where: {paid: [1]}}"
    found = landing(settings, with_mapping(tmp_path, yaml)).left_out()
    assert found == {"interactions": {"empty_list": 1, "where": 1}}
    told = accounting(INGEST | {"left_out": found})
    assert told[-1] == "data.yaml left out 2 rows of interactions before that (1 with an empty list, 1 by where)"

"""The look before a run: its three verdicts, what it says, and what it proposes."""

import datetime as dt
from pathlib import Path

import pandas as pd
import pytest
import yaml

from jobs.base.errors import DataError
from jobs.base.forgotten import hash_of, remember
from jobs.base.settings import PipelineSettings
from jobs.landing.mapping import DataMapping
from jobs.preflight.check import Check, check
from jobs.preflight.layout import lines_of
from jobs.source import ingest
from tests.jobs import source_builder as build
from tests.jobs.source.picture_server import picture_server

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]
TODAY = dt.date(2026, 2, 1)


def checked(settings: PipelineSettings, tmp_path: Path) -> tuple[Check, str]:
    """A check, and its text on one line, because where lines are broken depends on the length of paths."""
    said: list[str] = []
    proposal = tmp_path / "proposed" / "data.yaml"
    found = check(settings, date=None, today=TODAY, cache=None, proposal=proposal, say=said.append)
    assert said[0] == "reading the tables"
    return found, " ".join(" ".join(lines_of(found, settings.data.source)).split())


def fit(settings: PipelineSettings, folder: Path, **sections: dict) -> PipelineSettings:
    values = {"clusters": {"num_primary": 2}, "gate": {"min_evaluated_users": 5, "min_view_coverage": 0.0}}
    return build.tiny(settings, folder, **(values | sections))


def test_fit_to_run_and_nothing_is_touched(settings: PipelineSettings, tmp_path: Path) -> None:
    folder = build.write_source(tmp_path / "data")
    before = sorted(path.name for path in folder.iterdir())
    found, text = checked(fit(settings, folder), tmp_path)
    assert found.verdict == "fit" and found.date == build.DATE
    assert text.endswith("VERDICT: fit to run")
    assert "144 rows" in text and "times from 2026-01-17 to 2026-01-28" in text
    assert "user_id (text): 'u00'" in text and "0.0% missing" in text
    assert sorted(path.name for path in folder.iterdir()) == before
    assert not settings.home.exists() and found.proposal is None


def test_it_foresees_what_a_run_takes_from_the_day_before(settings: PipelineSettings, tmp_path: Path) -> None:
    folder = build.write_source(tmp_path / "data")
    yesterday = build.DATE - dt.timedelta(days=1)
    first = fit(settings, folder, ingest={"split": "per_user_tail"}).model_copy(update={"date": yesterday})
    ingest.run(first)
    remember(first, hash_of(first, "u05"))
    before = {path: path.stat().st_mtime_ns for path in settings.home.rglob("*")}
    chosen = fit(settings, folder, ingest={"min_holdout_users": 2})
    found, _ = checked(chosen, tmp_path)
    assert found.verdict == "fit" and found.ingest["split_reason"] == "as on the previous date"
    assert {path: path.stat().st_mtime_ns for path in settings.home.rglob("*")} == before
    summary = ingest.run(chosen)
    assert found.ingest == summary and summary["forgotten"] == build.NUM_DAYS

    build.write_source(folder, interactions=build.interactions().query("user_id < 'u05'"))
    found, text = checked(chosen, tmp_path)
    with pytest.raises(DataError, match="up to 2026-01-28, but it had 132 on 2026-01-27: 55% fewer") as caught:
        ingest.run(chosen)
    assert found.verdict == "not" and str(caught.value) in found.reasons and "raise data.max_log_shrinkage" in text


def test_it_will_run_with_what_to_mind(settings: PipelineSettings, tmp_path: Path) -> None:
    log = build.interactions()
    log.loc[:2, "user_id"] = ["nan", None, "U01"]
    found, text = checked(fit(settings, build.write_source(tmp_path / "data", interactions=log)), tmp_path)
    assert found.verdict == "but"
    assert "VERDICT: will run, but ..." in text and "every event names its user" in text
    assert "one value of user_id was a word such as nan" in text
    assert "differ from another one by the case of letters alone, such as 'U01' and 'u01'" in text


def test_it_stops_where_the_run_stops(settings: PipelineSettings, tmp_path: Path) -> None:
    log = build.interactions()
    log["item_id"] = log["item_id"].str.upper()
    chosen = fit(settings, build.write_source(tmp_path / "data", interactions=log), data={"max_rejected_fraction": 0.05})
    found, text = checked(chosen, tmp_path)
    assert found.verdict == "not"
    with pytest.raises(Exception, match="unknown_item 144") as caught:
        ingest.run(chosen)
    assert str(caught.value) in found.reasons
    assert "the case of letters" in str(caught.value)
    assert "'I00'" in text and "VERDICT: will not run, because ..." in text


def test_a_mapping_is_proposed_that_fits(settings: PipelineSettings, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    log = build.interactions().rename(columns={"user_id": "visitorid", "item_id": "itemid"}).assign(event="view")
    log["timestamp"] *= 1000
    log.to_csv(folder / "events.csv", index=False)
    build.items().rename(columns={"item_id": "product_id", "title": "name"}).to_csv(folder / "products.csv", index=False)
    found, text = checked(fit(settings, folder), tmp_path)
    assert found.verdict == "not" and "there is no interactions.parquet" in found.reasons[0]
    assert found.proposal is not None and str(found.proposal) in text
    mapping = DataMapping.model_validate(yaml.safe_load(found.proposal.read_text()))
    log_of = mapping.interactions[0]
    assert (log_of.source, log_of.timestamp_unit) == ("events.csv", "ms")
    assert log_of.columns == {"user_id": "visitorid", "item_id": "itemid", "kind": "event"}
    assert mapping.items.columns == {"item_id": "product_id", "title": "name"}
    assert "What a run would do" in text and "144 were used" in text
    same, _ = checked(fit(settings, folder), tmp_path)
    assert same.proposal == found.proposal
    edited = found.proposal.read_text() + "repeats: again\n"
    found.proposal.write_text(edited)
    other, text = checked(fit(settings, folder), tmp_path)
    assert found.proposal.read_text() == edited and other.proposal is not None
    assert other.proposal.name == "data-2.yaml" and "stays as it is" in text
    found.proposal.rename(folder / "data.yaml")
    assert checked(fit(settings, folder), tmp_path)[0].verdict == "fit"


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_mapping_is_proposed_whatever_the_format(settings: PipelineSettings, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    log = build.interactions().rename(columns={"user_id": "customer_id"})
    log["timestamp"] *= 1_000_000
    for name, table in (("orders", log), ("products", build.items())):
        if form == "jsonl":
            table.to_json(folder / f"{name}.jsonl", orient="records", lines=True)
        else:
            table.to_parquet(folder / f"{name}.parquet")
    found, text = checked(fit(settings, folder), tmp_path)
    assert found.proposal is not None and "144 were used" in text
    (log_of,) = DataMapping.model_validate(yaml.safe_load(found.proposal.read_text())).interactions
    assert (log_of.source, log_of.timestamp_unit, log_of.columns) == (f"orders.{form}", "us", {"user_id": "customer_id"})


@pytest.mark.parametrize(
    ("times", "guess"),
    [
        (lambda seconds: pd.to_datetime(seconds, unit="s").dt.strftime("%Y%m%d").astype(int), {"timestamp_format": "%Y%m%d"}),
        (lambda seconds: seconds - seconds.min(), {"timestamp_origin": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}),
    ],
)
def test_numbers_that_are_no_unix_times_are_guessed(settings: PipelineSettings, tmp_path: Path, times, guess: dict) -> None:
    log = build.interactions().assign(timestamp=lambda rows: times(rows["timestamp"]))
    folder = build.write_source(tmp_path / "data", interactions=log)
    found, text = checked(fit(settings, folder), tmp_path)
    assert found.verdict == "not" and found.proposal is not None and len(found.reasons) == 1
    (log_of,) = DataMapping.model_validate(yaml.safe_load(found.proposal.read_text())).interactions
    assert log_of.model_dump(exclude_defaults=True) == guess
    assert "144 were used" in text and found.date is not None and found.date.year >= 2020
    found.proposal.rename(folder / "data.yaml")
    assert checked(fit(settings, folder), tmp_path)[0].verdict == "fit"


def test_pictures_that_are_not_there_are_named_with_the_place_tried(settings: PipelineSettings, tmp_path: Path) -> None:
    items = build.items().assign(image_path=[f"pictures/{row}.png" for row in range(build.NUM_ITEMS)])
    found, text = checked(fit(settings, build.write_source(tmp_path / "data", items=items)), tmp_path)
    assert found.verdict == "not"
    assert "of 24 looked at, 0 can be read" in text and "not readable: 24 not found." in text
    assert f"{tmp_path}/data/pictures/" in text


def test_one_bad_picture_of_several_is_counted_with_its_cause(settings: PipelineSettings, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, content in {"0": build.picture(0), "1": build.picture(1), "bad": b"no picture"}.items():
        (folder / f"{name}.png").write_bytes(content)
    items = build.items().assign(image_paths=[["0.png", "bad.png", "1.png"], ["gone.png"]] + [None] * (build.NUM_ITEMS - 2))
    _, text = checked(fit(settings, build.write_source(folder, items=items)), tmp_path)
    assert "2 items name 4 picture files; of 4 looked at, 3 can be read" in text and "not readable: 1 not found." in text
    told = "of 3 pictures that were opened, 1 cannot be used: 1 that are no JPEG, PNG, WebP, GIF or BMP."
    assert told in " ".join(text.split())


def test_a_column_image_of_paths_is_proposed_as_what_it_holds(settings: PipelineSettings, tmp_path: Path) -> None:
    paths = [f"shots/{row}.png" for row in range(build.NUM_ITEMS)]
    folder = build.write_source(tmp_path / "data")
    (folder / "items.parquet").unlink()
    build.items().assign(image=paths).to_csv(folder / "items.csv", index=False)
    (folder / "shots").mkdir()
    for row, path in enumerate(paths):
        (folder / path).write_bytes(build.picture(row))
    found, text = checked(fit(settings, folder), tmp_path)
    assert found.verdict == "not" and "write image_path: image into data.yaml" in found.reasons[0] and len(found.reasons) == 1
    assert found.proposal is not None and "of 24 looked at, 24 can be read" in text
    assert DataMapping.model_validate(yaml.safe_load(found.proposal.read_text())).items.columns == {"image_path": "image"}


def test_all_that_stops_a_run_is_told_and_nothing_points_to_what_is_thrown_away(
    settings: PipelineSettings, tmp_path: Path
) -> None:
    items = build.items().assign(image_path="nowhere.png")
    folder = build.write_source(tmp_path / "data", items=items.drop(columns="image", errors="ignore"))
    found, text = checked(fit(settings, folder, clusters={"num_primary": 16}), tmp_path)
    assert found.verdict == "not" and len(found.reasons) >= 2
    assert "enough items for every cluster" in text and "is where the catalogue says" in text
    assert "esans-check-" not in text and "more critical" not in text


def test_no_server_is_asked_unless_the_list_names_it(settings: PipelineSettings, tmp_path: Path) -> None:
    with picture_server() as server:
        server.pages |= {f"/{row}.png": build.picture(row) for row in range(build.NUM_ITEMS)}
        items = build.items().assign(image_paths=[[server.url(f"/{row}.png")] for row in range(build.NUM_ITEMS)])
        folder = build.write_source(tmp_path / "data", items=items)
        found, text = checked(fit(settings, folder), tmp_path)
        assert not server.asked and found.verdict == "not"  # no message looks for what exists near a URL
        assert "of 24 looked at, 0 can be read" in text and "name their servers in pictures.hosts" in text
        gate = {"min_evaluated_users": 5, "min_view_coverage": 1.0}
        found, text = checked(fit(settings, folder, pictures={"hosts": server.host}, gate=gate), tmp_path)
        assert found.verdict == "fit" and "of 24 looked at, 24 can be read" in text
        assert len(server.asked) == build.NUM_ITEMS


def test_identical_pictures_and_texts_are_counted(settings: PipelineSettings, tmp_path: Path) -> None:
    items = build.items().assign(image=[build.picture(1)] * build.NUM_ITEMS, title="thing", text=None)
    _, text = checked(fit(settings, build.write_source(tmp_path / "data", items=items)), tmp_path)
    assert "24 of 24 pictures that were compared are identical, all of them" in text
    assert "one text stands 24 times" in text


def test_a_folder_that_is_not_there_is_said_in_one_line(settings: PipelineSettings, tmp_path: Path) -> None:
    found, text = checked(fit(settings, tmp_path / "nowhere"), tmp_path)
    assert found.verdict == "not" and "does not exist" in text


def test_it_stops_where_the_gate_of_the_clusters_stops(settings: PipelineSettings, tmp_path: Path) -> None:
    items = build.items(80).assign(image_path=None).astype({"image_path": "string"})
    items.loc[30:, ["title", "text"]] = None  # 24 items are in the log
    items.loc[30:39, "image_path"] = [f"{row}.png" for row in range(10)]
    folder = build.write_source(tmp_path / "data", items=items)
    for row in range(10):
        (folder / f"{row}.png").write_bytes(build.picture(row))
    found, text = checked(fit(settings, folder), tmp_path)
    assert found.verdict == "not"
    assert "40 of 80 items have no title, no text, no picture and fewer than 3 training events" in text
    open_gate = fit(settings, folder, gate={"max_unclustered": 0.5, "min_evaluated_users": 5, "min_view_coverage": 0.0})
    assert checked(open_gate, tmp_path)[0].verdict == "fit"


def test_pandas_frames_of_nothing_but_ids(settings: PipelineSettings, tmp_path: Path) -> None:
    items = pd.DataFrame({"item_id": build.items()["item_id"]})
    found, text = checked(fit(settings, build.write_source(tmp_path / "data", items=items)), tmp_path)
    assert found.verdict == "fit" and "100.0% of the items have neither title nor text" in text


def test_ids_of_users_and_pictures_stand_side_by_side_with_those_of_the_others(
    settings: PipelineSettings, tmp_path: Path
) -> None:
    users = sorted(set(build.interactions()["user_id"]))
    known = pd.DataFrame({"user_id": [*(user.upper() for user in users[:8]), *users[8:10], "newcomer"], "country": "DE"})
    pictures = pd.DataFrame({"item_id": ["i00.0", "i01.0", "i02", "other"], "image": [build.picture(row) for row in range(4)]})
    folder = build.write_source(tmp_path / "data", users=known, images=pictures)
    (folder / "data.yaml").write_text("users: {attributes: {country: text}}\n")
    found, text = checked(fit(settings, folder), tmp_path)
    assert found.verdict == "but"
    assert (
        "9 users of the table users are not in the log, such as 'U00', 'U01', 'U02'; the log has 'u00', 'u01', 'u02'." in text
    )
    assert "8 ids differ from another one by the case of letters alone, such as 'U00' and 'u00'" in text
    assert "the table users says nothing of 10 of 12 users of the log." in text
    said = "3 items of the table images are not in the catalogue, such as 'i00.0', 'i01.0', 'other'; the catalogue has 'i00'"
    assert said in text and "2 ids differ from another one by a trailing '.0' alone, such as 'i00.0' and 'i00'" in text
    assert len([reason for reason in found.reasons if "write these ids alike" in reason]) == 2


@pytest.mark.parametrize("damage", [b"u00,\xf6,1769601600\n", b"u00,i00\n", b'u00,"i00,1769601600\n', b"u00,i\0,1769601600\n"])
def test_a_fault_below_the_first_rows_is_the_verdict(settings: PipelineSettings, tmp_path: Path, damage: bytes) -> None:
    folder = build.write_source(tmp_path / "data")
    (folder / "interactions.parquet").unlink()
    (folder / "interactions.csv").write_bytes(build.interactions().to_csv(index=False).encode() + damage)
    found, text = checked(fit(settings, folder), tmp_path)
    assert found.verdict == "not" and found.proposal is None and len(found.reasons) == 1
    assert "line 146" in text and "VERDICT: will not run, because ..." in text

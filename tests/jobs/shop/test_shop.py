import datetime as dt
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.base.errors import DataError
from jobs.base.publish import published_folder
from jobs.base.settings import ShopSettings
from jobs.shop import pictures, snapshot
from jobs.shop.events import DAY_SECONDS, day_events
from jobs.shop.snapshot import first_date, last_date, write_snapshot
from jobs.shop.texts import describe
from jobs.shop.world import DRIFT_DAYS, FIRST_RUN, OPENING_DAY, World, date_of, day_of

SMALL = ShopSettings(generator="v1", num_items=200, num_users=150, num_days=14)
NEXT = FIRST_RUN + dt.timedelta(days=1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small shop on two successive days."""
    home = tmp_path_factory.mktemp("shop")
    write_snapshot(SMALL, home, FIRST_RUN)
    write_snapshot(SMALL, home, NEXT)
    return home


@pytest.fixture(scope="module")
def world() -> World:
    """A shop of middle size, of which nothing is written."""
    return World(ShopSettings(generator="v1", num_items=1000, num_users=800, num_days=35))


@pytest.fixture(scope="module")
def events(world: World) -> pd.DataFrame:
    """Five weeks of events up to the first run date: user, item, day."""
    days = range(-34, 1)
    drawn = [day_events(world, day) for day in days]
    return pd.concat([pd.DataFrame({"user": e.user, "item": e.item, "day": day}) for e, day in zip(drawn, days, strict=True)])


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read(home: Path, date: dt.date, table: str, where: str = "source") -> pd.DataFrame:
    return pq.read_table(home / where / f"date={date}" / f"{table}.parquet").to_pandas()


def test_the_same_seed_and_date_give_the_same_bytes_elsewhere(home: Path, tmp_path: Path) -> None:
    write_snapshot(SMALL, tmp_path, NEXT)
    there, here = content(home), content(tmp_path)
    assert len(here) > 190
    assert all(there[name] == here[name] for name in here)


def test_another_seed_gives_another_shop(home: Path, tmp_path: Path) -> None:
    write_snapshot(SMALL.model_copy(update={"seed": 1}), tmp_path, FIRST_RUN)
    ours, other = read(home, FIRST_RUN, "interactions"), read(tmp_path, FIRST_RUN, "interactions")
    assert len(ours.merge(other)) < 0.01 * len(ours)
    shelves = {path.name for folder in (home, tmp_path) for path in (folder / "source").glob("pictures-*")}
    assert len(shelves) == 2


def test_days_that_two_snapshots_cover_have_the_same_events(home: Path) -> None:
    today, tomorrow = read(home, FIRST_RUN, "interactions"), read(home, NEXT, "interactions")
    start, end = (day * DAY_SECONDS + _epoch(FIRST_RUN) for day in (-12, 1))  # 13 days are covered by both
    shared_today = today[today.timestamp >= start].reset_index(drop=True)
    shared_tomorrow = tomorrow[tomorrow.timestamp < end].reset_index(drop=True)
    assert len(shared_today) > 1000
    pd.testing.assert_frame_equal(shared_today, shared_tomorrow)
    assert tomorrow.timestamp.max() >= end > today.timestamp.max()
    assert today.timestamp.min() < start <= tomorrow.timestamp.min()


def test_a_log_has_the_declared_days_and_whole_seconds(home: Path) -> None:
    log = read(home, FIRST_RUN, "interactions")
    days = (log.timestamp - _epoch(FIRST_RUN)) // DAY_SECONDS
    assert sorted(days.unique()) == list(range(-13, 1))
    assert log.timestamp.dtype == np.int64
    assert not log.duplicated(["user_id", "item_id", "timestamp"]).any()
    evening = ((log.timestamp % DAY_SECONDS) // 3600).between(17, 22).mean()
    assert evening > 0.4  # 0.25 would be flat


def test_items_and_users_are_new_every_day_and_old_ones_never_change(home: Path) -> None:
    for table in ("items", "users"):
        today, tomorrow = read(home, FIRST_RUN, table, "truth"), read(home, NEXT, table, "truth")
        assert len(today) == {"items": 200, "users": 150}[table]
        assert len(tomorrow) == len(today) + 1
    items, later = read(home, FIRST_RUN, "items"), read(home, NEXT, "items")
    pd.testing.assert_frame_equal(items, later.head(len(items)))
    assert items.item_id.is_monotonic_increasing
    truth = read(home, NEXT, "items", "truth")
    assert list(truth.columns) == ["item_id", "category", "leaf", "born"]
    assert truth.born.iloc[-1] == NEXT
    assert truth.born.iloc[-2] == FIRST_RUN


@pytest.mark.parametrize("size", [50, 333, 3000])
def test_the_number_alive_is_the_number_born(size: int) -> None:
    world = World(ShopSettings(generator="v1", num_items=size, num_users=size))
    assert world.num_items(0) == size
    for day in (OPENING_DAY, -200, -14, -1, 0, 1, 30):
        numbers = np.arange(world.num_items(day) + 5 * world.num_items(1))
        assert (world.item_born(numbers) <= day).sum() == world.num_items(day)
        assert (world.user_born(numbers) <= day).sum() == world.num_users(day)


def test_nothing_happens_before_birth(world: World, events: pd.DataFrame) -> None:
    assert (events.day >= world.item_born(events["item"].to_numpy())).all()
    assert (events.day >= world.user_born(events["user"].to_numpy())).all()
    newborn = np.flatnonzero(world.item_born(np.arange(world.num_items(0))) == -10)
    assert events[events["item"].isin(newborn)].day.between(-10, 0).any()


def test_popularity_is_skewed_and_news_gets_attention(world: World, events: pd.DataFrame) -> None:
    counts = np.sort(np.bincount(events["item"], minlength=world.num_items(0)))[::-1]
    assert counts[:100].sum() > 0.3 * counts.sum()  # a tenth of the items
    assert np.median(counts) < 0.6 * counts.mean()
    age = events.day - world.item_born(events["item"].to_numpy())
    expected = world.item_popularity(events["item"].to_numpy())
    assert (1 / expected)[age <= 3].sum() > 2 * (1 / expected)[(age > 30) & (age <= 34)].sum()


def test_activity_is_skewed_around_a_usable_history(events: pd.DataFrame) -> None:
    per_user = events.groupby("user").size()
    assert 0.75 < per_user.between(15, 80).mean() < 1
    assert per_user.quantile(0.95) > 4 * per_user.quantile(0.1)


def test_the_default_shop_has_the_intended_size() -> None:
    world = World(ShopSettings(generator="v1"))
    assert len(world.leaves) == 96
    day = len(day_events(world, 0).user)
    assert 150_000 / 35 < day < 250_000 / 35


def test_an_oracle_that_knows_tastes_beats_popularity_by_far(world: World, events: pd.DataFrame) -> None:
    leaf = world.item_leaf(np.arange(world.num_items(0)))
    counts = np.bincount(events["item"][events.day < 0], minlength=len(leaf)).astype(float)
    held_out = events[events.day == 0].drop_duplicates()
    liked = world.user_leaves(np.arange(world.num_users(0)), 0)

    def recall_at_50(scores: np.ndarray, rows: pd.DataFrame) -> float:
        ranks = (scores > scores[np.arange(len(rows)), rows["item"]][:, None]).sum(1)
        return float((ranks < 50).mean())

    taste = (leaf[None, :, None] == liked[held_out["user"]][:, None, :]).any(-1)
    popularity = np.broadcast_to(counts, taste.shape)
    assert recall_at_50(taste * (1 + popularity), held_out) > 2 * recall_at_50(popularity, held_out)


def test_noise_is_the_share_of_events_outside_tastes(world: World, events: pd.DataFrame) -> None:
    today = events[events.day == 0]
    liked = world.user_leaves(np.arange(world.num_users(0)), 0)[today["user"]]
    outside = ~(world.item_leaf(today["item"].to_numpy())[:, None] == liked).any(1)
    assert 0.6 * 0.15 < outside.mean() < 1.2 * 0.15  # some noise falls inside tastes by chance


def test_tastes_have_a_focus_and_drift_by_one_leaf_a_fortnight(world: World) -> None:
    users = np.arange(800)
    before, after = world.user_leaves(users, 0), world.user_leaves(users, DRIFT_DAYS)
    changed = (before != after).sum(1)
    assert changed.max() == 1
    assert changed.mean() > 0.85  # the new leaf may by chance be the old one
    daily = (world.user_leaves(users, 0) != world.user_leaves(users, 1)).any(1).mean()
    assert 0.02 < daily < 0.15  # about one user in fourteen
    category = before // world.leaves_per_category
    focus = np.array([np.bincount(row).max() for row in category])
    assert (focus >= 3).mean() > 0.75


def test_pictures_are_readable_and_of_the_items_leaf(home: Path) -> None:
    items = read(home, FIRST_RUN, "items").dropna(subset=["image_path"])
    assert len(items) > 180
    folder = home / "source" / f"date={FIRST_RUN}"
    vectors = []
    for path in items.image_path:
        with Image.open(folder / path) as picture:
            assert (picture.format, picture.size, picture.mode) == ("JPEG", (96, 96), "RGB")
            vectors.append(np.asarray(picture.resize((12, 12)), dtype=float).ravel())
    pixels = np.array(vectors)
    assert len(np.unique(pixels, axis=0)) == len(pixels)
    leaf = items.merge(read(home, FIRST_RUN, "items", "truth")).leaf.to_numpy()
    away = np.sqrt(((pixels[:, None] - pixels[None]) ** 2).sum(-1))
    same = leaf[:, None] == leaf[None]
    off_diagonal = ~np.eye(len(leaf), dtype=bool)
    assert np.median(away[same & off_diagonal]) < 0.75 * np.median(away[~same])


def test_every_silhouette_and_pattern_draws_something_of_its_own(world: World) -> None:
    drawn = {leaf: pictures.draw_item(world, 7, leaf) for leaf in range(len(world.leaves))}
    for jpeg in drawn.values():
        pixels = np.asarray(Image.open(io.BytesIO(jpeg)), dtype=float)
        assert pixels.std() > 15
    assert len(set(drawn.values())) == len(drawn)


def test_texts_speak_of_their_leaf_and_vary(world: World) -> None:
    items = np.arange(1000)
    leaves = world.item_leaf(items)
    texts = [describe(world, int(item), world.leaves[leaf]) for item, leaf in zip(items, leaves, strict=True)]
    assert 0.01 < np.mean([text.title is None for text in texts]) < 0.06
    assert 0.03 < np.mean([text.text is None for text in texts]) < 0.12
    assert all(text.text is None for text in texts if text.title is None)
    full = [
        (f"{text.title} {text.text}".lower(), world.leaves[leaf]) for text, leaf in zip(texts, leaves, strict=True) if text.text
    ]
    named = np.mean([leaf.line in words for words, leaf in full])
    own = np.mean([any(word in words for word in leaf.material) for words, leaf in full])
    assert 0.5 < named < 1
    assert 0.6 < own < 1
    assert len({words for words, _ in full}) > 0.99 * len(full)
    assert "{" not in "".join(words for words, _ in full)


def test_a_few_items_lack_a_picture(home: Path, world: World) -> None:
    assert 0.01 < 1 - pictures.has_picture(world, np.arange(3000)).mean() < 0.05
    missing = read(home, FIRST_RUN, "items").image_path.isna().to_numpy()
    assert (missing == ~pictures.has_picture(World(SMALL), np.arange(200))).all()


def test_writing_again_touches_nothing(home: Path) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}

    before = times()
    write_snapshot(SMALL, home, FIRST_RUN)
    assert times() == before


@pytest.mark.slow
def test_a_large_catalogue_keeps_its_pictures_in_parquet_and_draws_only_the_new_block(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "_MAX_FILES", 100)
    monkeypatch.setattr(snapshot, "_BLOCK", 150)
    folder = write_snapshot(SMALL, tmp_path, FIRST_RUN)
    images = pq.read_table(folder / "images.parquet").to_pandas().set_index("item_id").image
    assert read(tmp_path, FIRST_RUN, "items").image_path.isna().all()
    shown = read(home, FIRST_RUN, "items").dropna(subset=["image_path"]).set_index("item_id").image_path
    assert sorted(images.index) == sorted(shown.index)
    source = home / "source" / f"date={FIRST_RUN}"
    assert all(images[name] == (source / path).read_bytes() for name, path in shown.items())
    [shelf] = (tmp_path / "source").glob("pictures-*")
    before = {path.name: path.stat().st_mtime_ns for path in shelf.iterdir()}
    write_snapshot(SMALL, tmp_path, NEXT)
    after = {path.name: path.stat().st_mtime_ns for path in shelf.iterdir()}
    assert before.items() < after.items()
    assert set(after) - set(before) == {"items-00000150-00000201.parquet"}


def test_a_failed_writer_leaves_the_old_folder_and_no_rubbish(tmp_path: Path) -> None:
    target = tmp_path / "date=2026-01-28"
    with published_folder(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError, match="power cut"), published_folder(target) as folder:
        (folder / "a").write_text("half")
        raise RuntimeError("power cut")
    assert content(tmp_path) == {"date=2026-01-28/a": b"old"}
    with published_folder(target) as folder:
        (folder / "b").write_text("new")
    assert content(tmp_path) == {"date=2026-01-28/b": b"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["date=2026-01-28"]


@pytest.mark.parametrize("date", [first_date() - dt.timedelta(days=1), last_date() + dt.timedelta(days=1)])
def test_a_date_outside_the_shop_is_refused_before_anything_is_written(tmp_path: Path, date: dt.date) -> None:
    with pytest.raises(DataError, match=f"no data for {date}.*choose a date"):
        write_snapshot(SMALL, tmp_path, date)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("days", [0, 1, 296])
@pytest.mark.parametrize("size", [50, 400, 499])
def test_a_shop_that_does_not_grow_has_exactly_what_was_asked_for_on_every_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, days: int
) -> None:
    monkeypatch.setattr(snapshot, "_draw_files", lambda *_: None)
    shop = ShopSettings(generator="v1", num_items=size, num_users=size + 7, num_days=9, grows=False)
    date = FIRST_RUN + dt.timedelta(days=days)
    write_snapshot(shop, tmp_path, date)
    assert len(read(tmp_path, date, "items")) == len(read(tmp_path, date, "items", "truth")) == size
    assert len(read(tmp_path, date, "users", "truth")) == size + 7
    log = read(tmp_path, date, "interactions")
    assert ((log.timestamp - _epoch(date)) // DAY_SECONDS).nunique() == 9
    assert log.item_id.isin(read(tmp_path, date, "items").item_id).all()


def test_a_shop_that_grows_says_so_where_it_has_more_than_its_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(snapshot, "_draw_files", lambda *_: None)
    shop = ShopSettings(generator="v1", num_items=400, num_users=30, num_days=7)
    caplog.set_level("INFO")
    write_snapshot(shop, tmp_path, FIRST_RUN)
    assert "400 items, 30 users" in caplog.text and "grows" not in caplog.text
    write_snapshot(shop, tmp_path, FIRST_RUN + dt.timedelta(days=296))
    assert "696 items, 326 users" in caplog.text
    assert "shop.num_items (400) and shop.num_users (30) are those of 2026-01-28" in caplog.text
    assert "set shop.grows to false" in caplog.text


def test_fewer_days_than_asked_for_are_refused_with_the_first_date_that_has_them(tmp_path: Path) -> None:
    early = first_date() + dt.timedelta(days=SMALL.num_days - 2)
    with pytest.raises(
        DataError, match=rf"has 13 days of events.*asks for 14.*choose {early + dt.timedelta(days=1)} or a later"
    ):
        write_snapshot(SMALL, tmp_path, early)
    assert not list(tmp_path.iterdir())
    write_snapshot(SMALL, tmp_path, early + dt.timedelta(days=1))
    log = read(tmp_path, early + dt.timedelta(days=1), "interactions")
    assert ((log.timestamp - _epoch(first_date())) // DAY_SECONDS).nunique() == 14


def test_days_and_dates_are_inverse() -> None:
    assert day_of(date_of(-400)) == -400
    assert date_of(0) == FIRST_RUN
    assert len(day_events(World(SMALL), OPENING_DAY).user) > 0


def _epoch(date: dt.date) -> int:
    return int(dt.datetime(date.year, date.month, date.day, tzinfo=dt.UTC).timestamp())


@pytest.mark.slow
def test_the_command_makes_a_folder_or_says_why_not(tmp_path: Path) -> None:
    def shop(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "jobs.shop", *arguments]
        return subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=120)

    small = ("--generator", "v1", "--num-items", "60", "--num-users", "30", "--num-days", "7")
    done = shop(str(tmp_path / "home"), "--date", "2026-02-03", *small)
    assert done.returncode == 0, done.stderr
    assert pq.read_metadata(tmp_path / "home" / "source" / "date=2026-02-03" / "items.parquet").num_rows == 66
    exact = shop(str(tmp_path / "fixed"), "--date", "2026-02-03", "--no-grows", *small)
    assert exact.returncode == 0, exact.stderr
    assert pq.read_metadata(tmp_path / "fixed" / "source" / "date=2026-02-03" / "items.parquet").num_rows == 60
    assert "0.3 % of num_items" in shop("--help").stdout.replace("\n", " ").replace("  ", " ")
    refused = shop(str(tmp_path / "home"), "--date", "2040-01-01", *small)
    assert refused.returncode == 65
    assert "no data for 2040-01-01" in refused.stderr

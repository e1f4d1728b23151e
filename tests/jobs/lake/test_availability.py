"""Which items can be had, on dates with and without a table of the stock."""

import pandas as pd

from jobs.base.settings import PipelineSettings
from jobs.lake.availability import available_items
from jobs.lake.tables import Lake
from tests.jobs import source_builder as build


def test_each_item_asked_for_is_looked_up_and_an_unknown_one_cannot_be_had(settings: PipelineSettings) -> None:
    lake = Lake.of(settings)
    build.publish(settings, "items", pd.DataFrame({"item_id": ["a", "b"]}))
    assert available_items(lake, settings.date, ["b", "c"]).tolist() == [True, False]
    build.publish(settings, "stock", pd.DataFrame({"item_id": ["a", "b", "c"], "available": [True, False, True]}))
    assert available_items(lake, settings.date, ["c", "x", "b", "a"]).tolist() == [True, False, False, True]
    assert available_items(lake, settings.date, []).tolist() == []

"""Every setting of the pipeline, in one typed schema.

The command line of each job, the trigger form of the DAG and the parameters logged to MLflow all come from here.
Precedence, highest first: command line, values passed in code (or a settings file), environment (`ESANS_...`, nested
names joined by `__`), what a person agreed to after a search (`jobs.base.agreed`), defaults.
"""

import datetime as dt
import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pydantic import Field, PrivateAttr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from jobs.base.agreed import AgreedSource, Value, read_agreement
from jobs.base.sections.answers import CandidateSettings, ServingSettings
from jobs.base.sections.decision import GateSettings, RegistrySettings
from jobs.base.sections.items import ClusterSettings, FeatureSettings
from jobs.base.sections.model import POPULARITY, SamplingMethod, SamplingSettings, TrainingSettings
from jobs.base.sections.pictures import PictureSettings
from jobs.base.sections.running import RunSettings, SparkSettings
from jobs.base.sections.section import Section
from jobs.base.sections.source import EMBEDDED, DataSettings, IngestSettings, ShopSettings
from jobs.base.sections.tuning import TuningSettings
from jobs.base.settings_text import explain, flatten, nearest, nest, workspace_name

__all__ = [
    "EMBEDDED",
    "POPULARITY",
    "CandidateSettings",
    "ClusterSettings",
    "DataSettings",
    "FeatureSettings",
    "GateSettings",
    "IngestSettings",
    "PictureSettings",
    "PipelineSettings",
    "RegistrySettings",
    "RunSettings",
    "SamplingMethod",
    "SamplingSettings",
    "Section",
    "ServingSettings",
    "ShopSettings",
    "SparkSettings",
    "TrainingSettings",
    "TuningSettings",
    "explain",
    "flatten",
    "nearest",
    "nest",
    "workspace_name",
]

_WHEN_AND_WHERE = frozenset({"date", "home", "lake", "serving"})  # of a run
_NO_RESULT = frozenset({"spark", "registry", "run", "tuning"})  # sections that say how and where steps run


class PipelineSettings(BaseSettings):
    """All settings of one run of the pipeline."""

    model_config = SettingsConfigDict(
        env_prefix="ESANS_",
        env_nested_delimiter="__",
        extra="forbid",
        validate_default=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_implicit_flags=True,
    )

    date: dt.date = Field(dt.date(2026, 1, 28), description="Logical date, YYYY-MM-DD: the last day of events used.")
    home: Path = Field(Path("var/embedded"), description="Home folder: all that the pipeline keeps lies in it.")
    lake: str = Field("", description="Folder or URI (s3, gs, webhdfs) of the tables. If empty: `lake` in the home folder.")
    serving: str = Field(
        "", pattern=r"^[^:]*$", description="Folder of published serving bundles. If empty: `serving` in the home folder."
    )
    data: DataSettings = DataSettings()
    shop: ShopSettings = ShopSettings()
    ingest: IngestSettings = IngestSettings()
    pictures: PictureSettings = PictureSettings()
    features: FeatureSettings = FeatureSettings()
    clusters: ClusterSettings = ClusterSettings()
    sampling: SamplingSettings = SamplingSettings()
    training: TrainingSettings = TrainingSettings()
    gate: GateSettings = GateSettings()
    candidates: CandidateSettings = CandidateSettings()
    bundle: ServingSettings = ServingSettings()
    registry: RegistrySettings = RegistrySettings()
    spark: SparkSettings = SparkSettings()
    run: RunSettings = RunSettings()
    tuning: TuningSettings = TuningSettings()

    _config_hash: str | None = PrivateAttr(None)  # in a copy that `only` made: the hash of all settings

    @field_validator("home")
    @classmethod
    def _absolute_home(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @model_validator(mode="before")
    @classmethod
    def _known_environment(cls, values: Any) -> Any:
        """Refuse an environment variable that was meant as a setting and names no section; it would be ignored otherwise."""
        prefix, delimiter = cls.model_config["env_prefix"], cls.model_config["env_nested_delimiter"] or ""
        for name in os.environ:
            section = name.removeprefix(prefix).split(delimiter)[0].lower()
            if name.startswith(prefix) and delimiter in name and section not in cls.model_fields:
                raise ValueError(
                    f"the environment variable {name} names no section of the settings. "
                    f"Correct the name, or unset it. There are: {', '.join(cls.model_fields)}."
                )
        return values

    @model_validator(mode="after")
    def _consistent(self) -> "PipelineSettings":
        if self.clusters.min_cluster_size < self.sampling.items_per_cluster:
            raise ValueError(
                f"clusters.min_cluster_size ({self.clusters.min_cluster_size}) must be at least "
                f"sampling.items_per_cluster ({self.sampling.items_per_cluster}): each cluster gives that many distinct items"
            )
        training = self.training
        if training.embedding_dim % (training.members * training.num_heads):
            members = f" times training.members ({training.members})" if training.members > 1 else ""
            raise ValueError(
                f"training.embedding_dim ({training.embedding_dim}) must be divisible by "
                f"training.num_heads ({training.num_heads}){members}"
            )
        if training.batch_size % training.num_shards or training.batch_size < training.processes:
            raise ValueError(
                f"training.batch_size ({training.batch_size}) must be divisible by training.num_shards "
                f"({training.num_shards}) and at least training.processes ({training.processes})"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Explicit values go before the environment. pydantic-settings puts the command line before both."""
        return init_settings, env_settings, AgreedSource(settings_cls)

    @property
    def ds(self) -> str:
        """The logical date as YYYY-MM-DD."""
        return self.date.isoformat()

    @property
    def tracking_uri(self) -> str:
        """The MLflow tracking URI in force."""
        return self.registry.tracking_uri or f"sqlite:///{self.home}/mlflow/mlflow.db"

    @property
    def registry_kind(self) -> str:
        """What kind of store MLflow has, such as `sqlite` or `http`. Its address may change, and may hold a password."""
        return urlparse(self.tracking_uri).scheme.split("+")[0]

    @property
    def serving_root(self) -> Path:
        """Folder of the published serving bundles."""
        return Path(self.serving).expanduser().resolve() if self.serving else self.home / "serving"

    @property
    def run_dir(self) -> Path:
        """Folder of this date's settings, step records, verdicts and report."""
        return self.home / self.run.records / self.ds

    def config_hash(self) -> str:
        """Hash of all that can change a result: everything but the date, where tables are kept, and how and where steps run."""
        if self._config_hash:
            return self._config_hash
        values = self.model_dump(mode="json", exclude={*_WHEN_AND_WHERE, *_NO_RESULT})
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def only(self, sections: Collection[str]) -> "PipelineSettings":
        """A copy with these sections, and those that change no result. Reading another section raises `AttributeError`."""
        part = self.model_copy()
        part._config_hash = self.config_hash()
        for name in type(self).model_fields.keys() - {*_WHEN_AND_WHERE, *_NO_RESULT, *sections}:
            del part.__dict__[name]
        return part

    def agreement(self) -> dict[str, Any] | None:
        """What was agreed to in this home, as JSON values; None if nothing was.

        Returns:
            The fields of `jobs.base.agreed.Agreement`, and `otherwise`: of the agreed settings, those that somebody has given
            another value for this run, with that value.

        Raises:
            DataError: the file is damaged.
        """
        found, flat = read_agreement(self.home, type(self)), self.flat()
        if found is None:
            return None
        otherwise: dict[str, Value] = {name: flat[name] for name, value in found.settings.items() if flat[name] != value}
        return found.model_dump(mode="json") | {"otherwise": otherwise}

    def flat(self) -> dict[str, str | int | float | bool]:
        """All settings as `section.name` -> value, for MLflow parameters and forms."""
        return flatten(self.model_dump(mode="json"))

"""How every benchmark records what it measured: rows of one form, and the machine they were measured on.

Only `write_result` and `machine` need more than the standard library, so that rows can be made on a bare GPU machine.
"""

import datetime as dt
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results"


@dataclass(frozen=True)
class Row:
    """One measured number, beside its peer's where there is one.

    Attributes:
        case: what was measured on, such as `1,000,000 items`.
        subject: who was measured, such as `ESANS sampler`.
        metric: what, such as `throughput`.
        unit: its unit.
        value: the number; the median where there are several repeats.
        repeats: how many measurements it is the median (or mean) of.
        peer: who it is compared with.
        ratio: `value` over the peer's.
        bar: the bar the ratio or value must meet, in words, such as `ratio >= 10`.
        holds: whether it does.
    """

    case: str
    subject: str
    metric: str
    unit: str
    value: float
    repeats: int = 1
    peer: str | None = None
    ratio: float | None = None
    bar: str | None = None
    holds: bool | None = None


def write_result(name: str, command: str, rows: Iterable[Row], *, folder: Path = RESULTS, **more: Any) -> Path:
    """Write `<name>.json`: machine, commit, date, command and rows; what is None in a row is left out.

    Args:
        name: name of the benchmark.
        command: what a person types to measure again.
        rows: what was measured.
        folder: where it goes; quick modes have a folder outside the repository.
        more: further top-level fields.
    """
    from jobs.base.files import write_json
    from jobs.lake.tables import git_sha

    plain = [{key: value for key, value in asdict(row).items() if value is not None} for row in rows]
    head = {"machine": machine(), "commit": git_sha(), "date": dt.date.today().isoformat(), "command": command}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", head | {"rows": plain} | more)
    return folder / f"{name}.json"


def machine() -> dict[str, Any]:
    """What a benchmark ran on."""
    import psutil

    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpu": cpu[1] if cpu else platform.processor(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        **system(),
    }


def system() -> dict[str, Any]:
    """What the standard library alone says of a machine."""
    return {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}

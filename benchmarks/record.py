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
    """One measured number, with that of its peer if there is one.

    Attributes:
        case: the conditions of the measurement, such as `1,000,000 items`.
        subject: what was measured, such as `ESANS sampler`.
        metric: which property of it, such as `throughput`.
        unit: unit of the number.
        value: the number; the median if there are several repeats.
        repeats: of how many measurements it is the median (or mean).
        peer: what it is compared with.
        ratio: `value` over the peer's value.
        bar: the bar that the ratio or the value must meet, as text, such as `ratio >= 10`.
        holds: whether it meets the bar.
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
    """Write `<name>.json`: machine, commit, date, command and rows. Fields of a row that are None are left out.

    Args:
        name: name of the benchmark.
        command: what a person types to measure again.
        rows: the measurements.
        folder: where the file goes; quick modes use a folder outside the repository.
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
    """Description of the machine that a benchmark ran on."""
    import psutil

    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpu": cpu[1] if cpu else platform.processor(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        **system(),
    }


def system() -> dict[str, Any]:
    """Description of a machine from the standard library alone."""
    return {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}

"""Files of agreed settings, as `jobs.tuning.agreement` writes them."""

import json
from pathlib import Path
from typing import Any

RECORD = {
    "by": "ann",
    "at": "2026-11-28T10:00:00+00:00",
    "reason": "found on validation",
    "date": "2026-01-28",
    "proposal": "0a1b2c3d4e5f",
    "trial": 7,
    "trials": 23,
    "metric": "validation_recall_50",
    "before": 0.17,
    "found": 0.18,
}


def agree(home: Path, settings: dict[str, Any], **changes: Any) -> Path:
    """Write the file of a home folder and return it."""
    file = home / "agreed_settings.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(RECORD | {"settings": settings} | changes))
    return file

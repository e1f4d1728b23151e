"""The pictures of a run, drawn once for all who show them: the reviewer before the verdict, and the report after it."""

import base64
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from jobs.base.files import write_json
from jobs.base.publish import published_folder
from jobs.report.facts import RunFacts
from jobs.report.pictures import Picture, draw_pictures
from jobs.step.code_key import code_key

_SHOWN = ("items", "clusters", "challenger", "baseline", "evaluation")
_LIST = "pictures.json"


def gallery(facts: RunFacts) -> tuple[Path, list[Picture]]:
    """The folder with the run's pictures, and which they are; drawn again only where what they show has changed."""
    folder, key = facts.settings.run_dir / "pictures", _key(facts)
    kept = json.loads((folder / _LIST).read_text()) if (folder / _LIST).exists() else {}
    if kept.get("key") != key:
        with published_folder(folder) as draft:
            kept = {"key": key, "pictures": [asdict(picture) for picture in draw_pictures(facts, draft)]}
            write_json(draft / _LIST, kept)
    return folder, [Picture(**values) for values in kept["pictures"]]


def embedded(path: Path) -> str:
    """A PNG as the `src` of an image on a page that must need no other file."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _key(facts: RunFacts) -> str:
    tables = {name: facts.manifests[name]["digest"] for name in _SHOWN if name in facts.manifests}
    parts = {"tables": tables, "metrics": facts.metrics, "source": facts.source, "code": code_key(draw_pictures)}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

"""Links of the pages: written for somebody who reads them in the repository, and turned into links of the site.

A page may link to any file of the repository. A target that has a page on the site becomes a link to it. Any other file is
named by its path instead. A target that does not exist fails a strict build.
"""

import logging
import posixpath
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

# Pages of the site that lie outside docs/: where they stand on the site, and their file in the repository.
ELSEWHERE = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "benchmarks.md": "benchmarks/README.md",
    "infra/index.md": "infra/README.md",
    "infra/clusters.md": "infra/clusters/README.md",
    "infra/compose.md": "infra/compose/README.md",
    "infra/helm.md": "infra/helm/README.md",
}
_ON_SITE = {path: uri for uri, path in ELSEWHERE.items()}
_LINK = re.compile(
    r"(?P<image>!?)\[(?P<text>(?:!\[[^\]]*\]\([^)]*\)|[^\]])*)\]\((?!https?://|#|mailto:)(?P<target>[^)#\s]+)(?P<anchor>#[^)]*)?\)"
)

log = logging.getLogger("mkdocs.hooks.links")


def for_site(markdown: str, uri: str) -> str:
    """The page's text with its links as the site needs them.

    Args:
        markdown: the text as it stands in the repository.
        uri: where the page stands on the site, such as `results/speed.md`.
    """
    parts = re.split(r"(^```.*?^```[^\S\n]*$)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else _LINK.sub(lambda match: _link(match, uri), part) for part in parts)


def _link(match: re.Match[str], uri: str) -> str:
    source = ELSEWHERE.get(uri, f"docs/{uri}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), match["target"]))
    if not (REPOSITORY / path).exists() and not path.startswith("docs/reference/"):
        log.warning("%s links to %s, which does not exist", source, match["target"])
        return match[0]
    text = for_site(match["text"], uri)
    on_site = path.removeprefix("docs/") if path.startswith("docs/") else _ON_SITE.get(path)
    if on_site is None:
        return text if text == f"`{path}`" else f"{text} (`{path}`)"
    relative = posixpath.relpath(on_site, posixpath.dirname(uri) or ".")
    return f"{match['image']}[{text}]({relative}{match['anchor'] or ''})"

"""What mkdocs calls while it builds the site."""

import logging
from typing import Any

from mkdocs.structure.files import File, Files

from infra.docs_site import links, reference, settings_page
from infra.docs_site.links import ELSEWHERE, REPOSITORY

log = logging.getLogger("mkdocs.hooks.esans")  # a warning here fails a strict build


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that lie elsewhere in the repository, and the page that is made from the settings."""
    for uri, path in ELSEWHERE.items():
        files.append(File.generated(config, uri, content=(REPOSITORY / path).read_text()))
    files.append(File.generated(config, settings_page.PAGE, content=settings_page.page()))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Turn links into those of the site. If the page is the reference, check it too."""
    uri = page.file.src_uri
    if uri == reference.PAGE:
        for complaint in reference.complaints(markdown):
            log.warning(complaint)
        markdown = reference.for_site(markdown)
    return markdown if uri.endswith(".ipynb") else links.for_site(markdown, uri)

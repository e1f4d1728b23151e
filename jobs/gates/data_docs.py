"""Makes the Data Docs readable without a network, and leads from them back to the reports.

The pages that Great Expectations writes load style sheets from other servers, and a script from there fills the index.
"""

import html
import json
import re
from pathlib import Path

_MARK = "esans-offline"
# Links to other servers would make a browser without a network wait. So they are removed, and the sheet below replaces them.
_REMOTE = re.compile(
    r"<link\b[^>]*href=[\"'](?:https?:)?//[^>]*>|<script\b[^>]*src=[\"'](?:https?:)?//[^>]*>\s*</script>"
    r"|<img\b[^>]*src=[\"'](?:https?:)?//[^>]*>",
    re.IGNORECASE,
)
_STYLE = f"""<style id="{_MARK}">
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1f2933; margin: 0 auto; max-width: 1100px; padding: 1rem 1.5rem; }}
a {{ color: #0b5cad; text-decoration: none; }} a:hover {{ text-decoration: underline; }}
h1, h2, h3, h4, h5 {{ line-height: 1.25; margin: 1.2rem 0 .5rem; }}
table {{ border-collapse: collapse; margin: .5rem 0 1rem; }}
td, th {{ border: 1px solid #d5dbe1; padding: .35rem .6rem; text-align: left; vertical-align: top; }}
th {{ background: #f3f5f7; }}
ul {{ padding-left: 1.2rem; }} ol.breadcrumb, ul.navbar-nav, .nav {{ list-style: none; padding: 0; }}
img {{ max-height: 34px; }}
code, pre {{ background: #f3f5f7; padding: .1rem .3rem; overflow-x: auto; }}
.card, .alert {{ border: 1px solid #d5dbe1; border-radius: 6px; padding: .6rem 1rem; margin: .6rem 0; }}
.badge {{ background: #e4e8ec; border-radius: 8px; padding: 0 .4rem; margin: 0 .15rem; }}
footer, .modal, .popover, .tooltip, .fa-external-link, #ge-cta-footer, .ge-walkthrough-modal {{ display: none; }}
.fa-check-circle::before, .text-success::before {{ content: "\\2713 "; color: #1a7f37; }}
.fa-times::before, .text-danger::before {{ content: "\\2717 "; color: #c62828; }}
.fa-exclamation-triangle::before {{ content: "! "; color: #b26a00; }}
.tab-content, #nav-tab, .nav-tabs {{ display: none; }}
</style>"""
_BODY = re.compile(r"<body\b[^>]*>", re.IGNORECASE)
_LATEST_DATES = 60  # dates on the index; the pages of earlier dates stay where they are


def make_readable_offline(site: Path, results: Path, home: Path) -> int:
    """Give every page of a Data Docs site a small style sheet and links to the reports, and its index a table of the results.

    Args:
        site: folder of the site, below the home; nothing happens if it does not exist.
        results: folder of the stored validation results, laid out like the site's `validations`.
        home: holds the folder `reports`.

    Returns:
        Number of pages that were changed. A page that was changed before is left alone.
    """
    changed = 0
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if _MARK in text:
            continue
        text = _REMOTE.sub("", text).replace("</head>", _STYLE + "\n</head>", 1)
        if body := _BODY.search(text):
            text = f"{text[: body.end()]}\n{_ways_back(page, site, home)}{text[body.end() :]}"
        if page == site / "index.html":
            text = text.replace("</body>", _index_table(site, results) + "\n</body>", 1)
        page.write_text(text, encoding="utf-8")
        changed += 1
    return changed


def _ways_back(page: Path, site: Path, home: Path) -> str:
    """Links to the reports. They hold on disk, and at the reports' server, for a browser stops at the root when it goes up."""
    up = "../" * (len(page.relative_to(home).parts) - 1)
    places = [("All reports", "index.html")]
    parts = page.relative_to(site).parts
    if parts[0] == "validations":
        date = parts[3]
        places.append((f"Report of {date}", f"{date}/index.html"))
    links = (f'<a href="{html.escape(f"{up}reports/{place}", quote=True)}">{html.escape(text)}</a>' for text, place in places)
    return f"<p>{' · '.join(links)}</p>"


def _index_table(site: Path, results: Path) -> str:
    """One row for each judged table of each date, the latest date first."""
    found = []
    for page in (site / "validations").rglob("*.html"):
        stage, table, date = page.relative_to(site / "validations").parts[:3]
        found.append((date, stage, table, page))
    dates = sorted({date for date, *_ in found}, reverse=True)[:_LATEST_DATES]
    rows = ["<h2>Results by date</h2>", "<table><tr><th>date</th><th>gate</th><th>table</th><th>result</th></tr>"]
    for date in dates:
        for _, stage, table, page in sorted(entry for entry in found if entry[0] == date):
            stored = results / page.relative_to(site / "validations").with_suffix(".json")
            holds = json.loads(stored.read_text())["success"]
            word = "all expectations hold" if holds else "some do not hold"
            link = html.escape(page.relative_to(site).as_posix(), quote=True)
            cells = "".join(f"<td>{html.escape(text)}</td>" for text in (date, stage, table))
            rows.append(f'<tr>{cells}<td><a href="{link}">{word}</a></td></tr>')
    return "\n".join([*rows, "</table>"])

"""Quality gates: what must hold of each stage's tables, judged by Great Expectations (docs/gates.md).

May import: base, lake, source.
"""

import logging
import os

# Both must be set before Great Expectations is imported: it reports usage, and logs hundreds of lines, from its import on.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
logging.getLogger("great_expectations").setLevel(logging.WARNING)

"""Quality gates: what must hold for each stage's tables, judged with Great Expectations (docs/gates.md).

May import: base, lake, source.
"""

import logging
import os

# Set before Great Expectations is imported, because its import starts to report usage and logs hundreds of lines.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
logging.getLogger("great_expectations").setLevel(logging.WARNING)

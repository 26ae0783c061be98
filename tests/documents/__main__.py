"""Write the numbers of all pages, or say which pages differ from the records."""

from __future__ import annotations

import argparse
import sys

from tests.documents.pages import PAGES, ROOT, fill
from tests.documents.tables import TABLES


def main() -> int:
    """Return 0 when every page is as the records have it, or was written so."""
    parser = argparse.ArgumentParser(prog="python -m tests.documents", description=__doc__)
    parser.add_argument("--write", action="store_true", help="Write the pages that differ.")
    write = parser.parse_args().write
    differ = 0
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = fill(old, TABLES, where=str(page.relative_to(ROOT)))
        if new == old:
            continue
        differ += not write
        sys.stdout.write(f"{page.relative_to(ROOT)}: {'written' if write else 'differs'}\n")
        if write:
            page.write_text(new, encoding="utf-8")
    return min(differ, 1)


if __name__ == "__main__":
    sys.exit(main())

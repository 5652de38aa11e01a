"""release.py and its package as the one file that SSM's document fetches by its hash: a zip that python3 runs."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

PROGRAM = "release.py"
PACKAGE = "releasing"
NAME = "release.pyz"
WHEN = (1980, 1, 1, 0, 0, 0)


def archive(bootstrap: Path) -> bytes:
    """The archive of a bootstrap folder's release.py: the same bytes for the same files, on any machine."""
    members = {"__main__.py": bootstrap / PROGRAM}
    members |= {f"{PACKAGE}/{path.name}": path for path in (bootstrap / PACKAGE).glob("*.py")}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as packed:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, WHEN)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            packed.writestr(entry, members[name].read_bytes())
    return out.getvalue()

"""Whom to trust when dialling the edge: the system's authorities, and the edge's own where it is its own."""

from __future__ import annotations

import ssl


def context(ca_pem: str | None) -> ssl.SSLContext:
    """Names and chains are checked. `ca_pem`: the edge's internal authority, as its host reports it, or None."""
    made = ssl.create_default_context()
    if ca_pem:
        made.load_verify_locations(cadata=ca_pem)
    return made

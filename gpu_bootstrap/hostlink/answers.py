"""The control plane's answer to a report: whether it can be obeyed, and what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .errors import LinkError


def check_answer(payload: bytes) -> dict[str, Any]:
    """The control plane's answer, if it has the form this host can obey; raises LinkError and obeys none of it."""
    try:
        answer = json.loads(payload)
    except (ValueError, RecursionError):
        raise LinkError("the answer is not JSON") from None
    if not isinstance(answer, dict):
        raise LinkError("the answer is not a JSON object")
    pause = answer.get("next_report_s")
    if isinstance(pause, bool) or not isinstance(pause, (int, float)) or not 0.1 <= pause <= 3600:
        raise LinkError("the answer's next_report_s is not a number of seconds from 0.1 to 3600")
    for name in ("ticket_keys", "revoked", "upstreams"):
        if not isinstance(answer.get(name, []), list):
            raise LinkError(f"the answer's {name} is not a list")
    if not all(isinstance(sid, str) for sid in answer.get("revoked", [])):
        raise LinkError("the answer's revoked holds something that is no session id")
    for key in answer.get("ticket_keys", []):
        if not isinstance(key, dict) or not all(isinstance(key.get(name), str) for name in ("kid", "secret")):
            raise LinkError("the answer's ticket_keys are not all {kid, secret}")
    for upstream in answer.get("upstreams", []):
        if not isinstance(upstream, dict) or not _is_ipv4(upstream.get("host")):
            raise LinkError("the answer's upstreams do not all have an IPv4 address as host")
    drain = answer.get("drain")
    if drain is not None and not isinstance(drain, dict):
        raise LinkError("the answer's drain is neither null nor an object")
    return answer


def _is_ipv4(value: object) -> bool:
    parts = value.split(".") if isinstance(value, str) else []
    return len(parts) == 4 and all(part.isascii() and part.isdigit() and int(part) < 256 for part in parts)


def hosts_of(answer: Mapping[str, Any]) -> list[str]:
    """The upstreams' addresses, sorted and each once: order means nothing to the edge."""
    return sorted({upstream["host"] for upstream in answer.get("upstreams", [])})


def watched(answer: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The GPU hosts to knock at, as address and port; what is no such pair is passed over."""
    listed = answer.get("watch")
    entries = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    pairs = [(one.get("host"), one.get("port")) for one in entries]
    return [(str(host), port) for host, port in pairs if _is_ipv4(host) and type(port) is int and 0 < port < 65536]


def stay_s(answer: Mapping[str, Any]) -> float | None:
    """Seconds from the answer's own `now` to its `stay_until`: this host's calendar has no say in it."""
    try:
        return (instant(answer["stay_until"]) - instant(answer["now"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment

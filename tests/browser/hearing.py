"""What a scripted server hears on one connection: which of its lines, from the connection's first sample on."""

from __future__ import annotations

from typing import Any

RATE = 16000
Lines = tuple[tuple[float, float, str], ...]


def segments(lines: Lines, offset_s: float, until_s: float, *, flush: bool) -> list[dict[str, Any]]:
    """Segments in the connection's own time. `lines`, `offset_s` and `until_s` count from the first sample ever.

    A line that began before the connection is heard from its first word on, which may lack its beginning. The last
    one is incomplete while its end was not heard, unless `flush`.
    """
    found: list[dict[str, Any]] = []
    for start, end, text in lines:
        begin = max(start, offset_s)
        heard = text if start >= offset_s else _rest(text, start, end, offset_s)
        if not heard or end <= offset_s:
            continue
        if end <= until_s or (flush and begin < until_s):
            found.append(_segment(begin - offset_s, end - offset_s, heard, completed=True))
        elif begin + 0.2 < until_s:
            words = heard.split()
            shown = max(1, round(len(words) * (until_s - begin) / (end - begin)))
            found.append(_segment(begin - offset_s, until_s - offset_s, " ".join(words[:shown]), completed=False))
    return found


def processed(found: list[dict[str, Any]], received_s: float) -> float:
    """Up to where nothing more is to be said: the beginning of what is still open."""
    return min((float(s["start"]) for s in found if not s["completed"]), default=received_s)


def _rest(text: str, start: float, end: float, since: float) -> str:
    words = text.split()
    each = (end - start) / sum(len(word) + 1 for word in words)
    heard, at = [], start
    for word in words:
        after = at + each * (len(word) + 1)
        if at >= since - 0.02:
            heard.append(word)
        elif after > since + each:  # cut in its middle
            heard.append(word[-max(1, round((after - since) / each) - 1) :])
        at = after
    return " ".join(heard)


def _segment(start: float, end: float, text: str, *, completed: bool) -> dict[str, Any]:
    return {"start": f"{start:.3f}", "end": f"{end:.3f}", "text": f" {text}", "completed": completed}

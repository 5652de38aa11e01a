"""A probe as the HTTP API shows it."""

from __future__ import annotations

from typing import Any

from chalicelib.domain.probes import Layer, Probe
from chalicelib.domain.repair import Health
from chalicelib.domain.times import to_text, to_text_or_none


def view(probe: Probe) -> dict[str, Any]:
    """`{ok, cause, layers}`."""
    return {"ok": probe.ok, "cause": probe.cause, "layers": [_layer(one) for one in probe.layers]}


def kept(health: Health) -> dict[str, Any] | None:
    """The last probe: when and why it was made, since when nothing is well, what was tried. None: there was none."""
    if not health.at:
        return None
    probe = Probe(health.ok, health.cause, health.layers)
    return {
        **view(probe),
        "at": to_text(health.at),
        "trigger": health.trigger,
        "failing_since": to_text_or_none(health.since),
        "heard_at": to_text_or_none(health.heard_at),
        "repairs": [
            {
                "kind": one.kind.value,
                "target": one.instance_id,
                "at": to_text(one.at),
                "reason": one.reason,
                "went": one.went or None,
            }
            for one in health.repairs
        ],
    }


def _layer(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name.value,
        "verdict": layer.verdict.value,
        "ms": round(layer.ms),
        "detail": layer.detail,
        "remedy": layer.remedy,
    }

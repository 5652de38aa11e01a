"""What a probe says: one verdict a layer, from the machine to the words, and the first that fails is the cause. Pure.

A probe looks from below: each layer stands on the ones before it, so what lies behind a failure was not reached, and
nothing behind it is blamed. A GPU that sleeps is no failure, and nothing here wakes it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How one layer is."""

    OK = "ok"
    FAILED = "failed"
    ASLEEP = "asleep"
    NOT_REACHED = "not_reached"


class LayerName(StrEnum):
    """The layers, in the order in which they carry each other."""

    TABLE = "table"
    MACHINE = "machine"
    AGENT = "agent"
    REPORT = "report"
    EDGE = "edge"
    CERTIFICATE = "certificate"
    UPSTREAM = "upstream"
    UPGRADE = "upgrade"
    READY = "ready"
    CANARY = "canary"


@dataclass(frozen=True)
class EdgeAnswer:
    """What the edge gave to GET /healthz. `problem` is a sentence, "" when it answered 200."""

    problem: str
    seconds: float
    certificate_days: float | None = None
    certificate_problem: str = ""


@dataclass(frozen=True)
class Heard:
    """How far a canary came. Seconds count from the dialling; None: that was never reached."""

    words: str = ""
    problem: str = ""
    """A sentence; "" when every word came."""
    upgrade_s: float | None = None
    ready_s: float | None = None
    first_word_s: float | None = None
    final_s: float | None = None
    """From the last sample sent to END."""
    close_code: int | None = None


REMEDIES = {
    LayerName.TABLE: "See whether DynamoDB throttles or refuses the control plane: whisperctl doctor. What runs "
    "goes on running, and the dead man's switch still holds.",
    LayerName.MACHINE: "See why EC2 does not run it: whisperctl status, whisperctl events.",
    LayerName.AGENT: "Without the SSM agent nothing can be installed or repaired: restart the machine, and look "
    "whether its role and its way to the internet are there: whisperctl doctor.",
    LayerName.REPORT: "Restart the service: whisperctl restart gpu. Its log says more: whisperctl logs gpu.",
    LayerName.EDGE: "Look at the edge: whisperctl logs edge; then whisperctl restart edge.",
    LayerName.CERTIFICATE: "See why it is not renewed: whisperctl logs edge. ACME needs ports 80 and 443 open.",
    LayerName.UPSTREAM: "Point the edge at the GPU over SSM: whisperctl refresh.",
    LayerName.UPGRADE: "The edge reaches no GPU host that takes the ticket: whisperctl restart gpu; if that does not "
    "help, look whether the security group lets the edge in on 9090.",
    LayerName.READY: "The service takes connections and does not serve them: whisperctl restart gpu.",
    LayerName.CANARY: "Speech comes back wrong or late: whisperctl restart gpu; then deploy the release before.",
}
"""What to do about a layer that failed, where the check itself knows nothing better."""

CERTIFICATE_LEAST_DAYS = 0.1
"""Below this browsers are about to refuse. Internal certificates live half a day and are renewed at a third of it."""
LIKENESS = 0.8
"""The share of the canary's words that must come back in their order."""


@dataclass(frozen=True)
class Layer:
    """One layer's verdict; `ms` is what looking took."""

    name: LayerName
    verdict: Verdict
    detail: str
    ms: float = 0.0
    remedy: str | None = None


@dataclass(frozen=True)
class Probe:
    """All layers, in order. `ok`: the canary gave the right words, or all is well and asleep."""

    ok: bool
    cause: LayerName | None
    layers: tuple[Layer, ...]

    @property
    def asleep(self) -> bool:
        return any(layer.verdict is Verdict.ASLEEP for layer in self.layers)

    @property
    def waiting(self) -> bool:
        """Neither green nor broken: it wakes, it drains, or every place is taken."""
        return not self.ok and self.cause is None


def failed(name: LayerName, detail: str, ms: float = 0.0, remedy: str | None = None) -> Layer:
    """A layer that failed, with its usual remedy unless the check knows a better one."""
    return Layer(name, Verdict.FAILED, detail, ms, remedy or REMEDIES[name])


def conclude(looked: Iterable[Layer], why: str = "nobody looked") -> Probe:
    """The probe from the layers that were looked at; those nobody came to are not reached, `why` says why.

    Raises ValueError when layers stand in another order, or something was looked at behind a failure.
    """
    seen = list(looked)
    order = list(LayerName)
    if [layer.name for layer in seen] != order[: len(seen)]:
        raise ValueError(f"layers out of order: {[layer.name.value for layer in seen]}")
    causes = [layer.name for layer in seen if layer.verdict is Verdict.FAILED]
    if causes and causes[0] is not seen[-1].name:
        raise ValueError(f"{seen[-1].name.value} was looked at behind {causes[0].value}, which failed")
    cause = causes[0] if causes else None
    behind = [
        Layer(name, Verdict.NOT_REACHED, f"behind {cause.value}" if cause else why) for name in order[len(seen) :]
    ]
    spoke = any(layer.name is LayerName.CANARY and layer.verdict is Verdict.OK for layer in seen)
    slept = len(seen) == len(order) and any(layer.verdict is Verdict.ASLEEP for layer in seen)
    return Probe(cause is None and (spoke or slept), cause, (*seen, *behind))


def judge_words(said: str, heard: str) -> tuple[bool, float]:
    """Whether the canary's words came back: the share of them in their order, and whether it is enough."""
    wanted, got = _words(said), _words(heard)
    if not wanted:
        raise ValueError("the canary says nothing")
    matcher = difflib.SequenceMatcher(a=wanted, b=got, autojunk=False)
    share = sum(block.size for block in matcher.get_matching_blocks()) / len(wanted)
    # Twice as much text as was said is a model that babbles, whatever else is in it.
    return share >= LIKENESS and len(got) <= 2 * len(wanted), share


def judge_certificate(days: float | None) -> tuple[bool, str]:
    """Whether a certificate with so many days left will do, in words."""
    if days is None:
        return False, "the edge shows no certificate"
    if days <= 0:
        return False, f"expired {_span(-days)} ago"
    return days > CERTIFICATE_LEAST_DAYS, f"{_span(days)} left"


def judge_upstreams(held: Sequence[str], ready: Sequence[str]) -> tuple[bool, str]:
    """Whether the edge forwards to ready GPU hosts, all of them and no others."""
    if set(held) == set(ready) and ready:
        return True, f"forwards to {', '.join(sorted(ready))}"
    return False, f"forwards to {', '.join(sorted(held)) or 'nobody'}; ready: {', '.join(sorted(ready)) or 'nobody'}"


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def _span(days: float) -> str:
    if days >= 2:
        return f"{days:.0f} days"
    return f"{days * 24:.0f} hours" if days * 24 >= 2 else f"{days * 1440:.0f} minutes"

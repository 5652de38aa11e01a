"""What people are told in a message: a title, a sentence, and what to do. Pure."""

from __future__ import annotations

from dataclasses import dataclass

TITLES = {
    "gpu.failing": "The GPU does not become ready",
    "gpu.broken": "The speech service failed",
    "gpu.lost": "The GPU host is silent",
    "gpu.no_capacity": "No GPU is to be had",
    "gpu.quota": "The account's quota of GPUs is used up",
    "gpu.awake_long": "The GPU has been awake for long",
    "gpu.receipt": "The GPU sleeps again",
    "booking.ready": "Ready for a booking",
    "booking.no_capacity": "No GPU yet for a booking",
    "booking.late": "Not ready yet for a booking",
    "booking.missed": "A booking was missed",
    "budget.spent": "The month's budget is spent",
    "edge.certificate": "The edge's certificate ends soon",
    "probe.failed": "Whoever speaks now gets no words",
    "repair.restart": "The speech service was restarted",
    "repair.refresh": "The edge was pointed at the GPU again",
    "test": "This is a test",
}
REMEDIES = {
    "gpu.failing": "whisperctl logs gpu; whisperctl doctor",
    "gpu.broken": "whisperctl restart gpu; whisperctl logs gpu",
    "gpu.lost": "whisperctl probe; whisperctl restart gpu",
    "gpu.no_capacity": "none needed, it is tried again; more types in GPU_TYPES or a standby help",
    "gpu.quota": "ask AWS for more vCPUs of G instances: whisperctl doctor says how many",
    "gpu.awake_long": "whisperctl status says why; whisperctl stop puts it to sleep",
    "edge.certificate": "whisperctl logs edge; ACME needs ports 80 and 443 open",
    "booking.no_capacity": "tell who booked; whisperctl status --watch",
    "booking.late": "tell who booked; whisperctl status --watch",
    "booking.missed": "whisperctl events says what happened",
}


@dataclass(frozen=True)
class Notification:
    """One message. `key` is the same for each try of the same message."""

    key: str
    title: str
    text: str
    action: str
    stack: str
    link: str

    @property
    def subject(self) -> str:
        """One line of at most 100 ASCII characters, as SNS wants a subject."""
        line = f"{self.stack}: {self.title}".encode("ascii", "replace").decode()
        return line[:100]

    @property
    def body(self) -> str:
        """Plain text: what, what to do, and where."""
        remedy = REMEDIES.get(self.action)
        lines = [self.text, *([f"What helps: {remedy}."] if remedy else []), self.link]
        return "\n".join(lines)


def notification(key: str, action: str, target: str, reason: str, stack: str, link: str) -> Notification:
    """The message for an event's action, target and reason; an action nobody named here is its own title."""
    title = TITLES.get(action) or action.replace(".", ": ").replace("_", " ")
    sentence = reason[:1].upper() + reason[1:] if reason else title
    subject = "" if target in reason or not target else f" ({target})"
    return Notification(key, title, f"{sentence}{subject}.", action, stack, link)

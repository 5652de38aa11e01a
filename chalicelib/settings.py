"""The control plane's settings: each field's variable, unit, default and meaning stand here and only here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from chalicelib.domain.night import Night


def _field(variable: str, doc: str, *, unit: str = "", default: Any = MISSING) -> Any:
    return field(default=default, metadata={"variable": variable, "doc": doc, "unit": unit})


class SettingsError(ValueError):
    """A variable is missing or unreadable; the message names it."""


@dataclass(frozen=True)
class Settings:
    """Built once from the environment by `from_env`; hashable, so that wiring can be cached by it."""

    stack_name: str = _field("STACK_NAME", "Names the stack; machines carry it in the tag whisperlive-edge:stack.")
    table_name: str = _field("TABLE_NAME", "The DynamoDB table that holds all state.")
    edge_url: str = _field("EDGE_URL", "Where browsers reach the edge: https://host[:port], no trailing slash.")
    stage: str = _field("STAGE", "Chalice stage, for logs.", default="dev")
    idle_minutes: float = _field(
        "IDLE_MINUTES",
        "How long the GPU lingers after the last wish; the longest, where the linger is learned.",
        unit="minutes",
        default=10.0,
    )
    idle_learned: bool = _field(
        "IDLE_LEARNED",
        "Whether the linger is learned from the gaps between sessions; else it is always IDLE_MINUTES.",
        default=True,
    )
    idle_least_minutes: float = _field(
        "IDLE_LEAST_MINUTES",
        "The shortest linger that is learned.",
        unit="minutes",
        default=1.0,
    )
    night: str = _field(
        "NIGHT",
        'Hours in which no session is admitted, e.g. "22:00-06:00 Europe/Berlin"; empty: none.',
        default="",
    )
    night_grace_minutes: float = _field(
        "NIGHT_GRACE_MINUTES",
        "From the notice at the night's start to the closing.",
        unit="minutes",
        default=5.0,
    )
    session_max_minutes: float = _field(
        "SESSION_MAX_MINUTES",
        "A session's longest life; its ticket expires with it.",
        unit="minutes",
        default=480.0,
    )
    sessions_per_token: int = _field(
        "SESSIONS_PER_TOKEN",
        "Live sessions one token may have at once; an invite that many people share needs one for each.",
        unit="sessions",
        default=50,
    )
    hard_max_minutes: float = _field(
        "HARD_MAX_MINUTES",
        "No GPU stays awake longer in one go, whatever the evidence.",
        unit="minutes",
        default=720.0,
    )
    start_booking_max_minutes: float = _field(
        "START_BOOKING_MAX_MINUTES",
        "The cap on gpu/start's minutes.",
        unit="minutes",
        default=240.0,
    )
    gpu_types: str = _field(
        "GPU_TYPES",
        'Machine types to try when AWS has no room, best first, e.g. "g4dn.xlarge g5.xlarge"; empty: no other.',
        default="",
    )
    boot_max_minutes: float = _field(
        "BOOT_MAX_MINUTES",
        "A machine that runs this long without one report is stopped and started again.",
        unit="minutes",
        default=6.0,
    )
    stop_max_minutes: float = _field(
        "STOP_MAX_MINUTES",
        "A machine that takes longer to stop is stopped by force.",
        unit="minutes",
        default=10.0,
    )
    time_zone: str = _field(
        "TIME_ZONE",
        "IANA zone of days, months and weekly bookings; empty: the night's, else UTC.",
        default="",
    )
    monthly_budget: float = _field(
        "MONTHLY_BUDGET",
        "A warning is written when the GPUs of a month cost more; 0: none.",
        unit="dollars",
        default=0.0,
    )
    require_ticket: bool = _field(
        "REQUIRE_TICKET",
        "Streams need a session's ticket; the hosts are told so by their own settings.",
        default=True,
    )
    bucket_name: str = _field(
        "BUCKET_NAME",
        "The S3 bucket that holds releases, plans of rollouts and outputs; empty: no releases.",
        default="",
    )
    api_url: str = _field(
        "API_URL",
        "Where hosts reach the API, without /v1; empty: by the address at which a rollout was asked for.",
        default="",
    )
    topic_arn: str = _field(
        "TOPIC_ARN",
        "The SNS topic by which people are told; empty: none.",
        default="",
    )
    webhook_parameter: str = _field(
        "WEBHOOK_PARAMETER",
        "The SSM parameter (a SecureString) that holds a webhook's address; absent or empty: none.",
        default="",
    )
    awake_alert_minutes: float = _field(
        "AWAKE_ALERT_MINUTES",
        "People are told when a GPU has been awake this long in one go; 0: never.",
        unit="minutes",
        default=240.0,
    )
    self_repair: bool = _field(
        "SELF_REPAIR",
        "Whether a probe's failure that lasts is repaired: one restart of the service, one refresh of the edge.",
        default=True,
    )
    canary_seconds: float = _field(
        "CANARY_SECONDS",
        "The longest that the last word of a canary may take after its last sample; later is a failure.",
        unit="seconds",
        default=5.0,
    )
    region: str = _field("AWS_REGION", "AWS region; empty leaves it to boto3.", default="")

    @property
    def ws_url(self) -> str:
        """The edge's WebSocket address."""
        scheme, _, rest = self.edge_url.partition("://")
        return f"{'wss' if scheme == 'https' else 'ws'}://{rest}/ws"

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the settings; raise SettingsError naming the variable that is missing or unreadable."""
        values: dict[str, Any] = {}
        for one in fields(cls):
            variable = one.metadata["variable"]
            text = env.get(variable, "").strip()
            if not text:
                if one.default is MISSING:
                    raise SettingsError(f"{variable} is not set. It says: {one.metadata['doc']}")
                continue
            values[one.name] = _parse(variable, text, one.default, one.metadata["unit"])
        settings = cls(**{**values, "edge_url": values["edge_url"].rstrip("/")})
        if settings.edge_url.partition("://")[0] not in ("https", "http"):
            raise SettingsError(f"EDGE_URL must begin with https://, not {settings.edge_url!r}")
        if settings.night:
            try:
                Night.parse(settings.night)
            except ValueError as error:
                raise SettingsError(f"NIGHT: {error}") from error
        if settings.time_zone:
            try:
                ZoneInfo(settings.time_zone)
            except (ZoneInfoNotFoundError, ValueError) as error:
                words = f"TIME_ZONE: {settings.time_zone!r} is not an IANA time zone such as Europe/Berlin"
                raise SettingsError(words) from error
        return settings


def _parse(variable: str, text: str, default: object, unit: str) -> object:
    if isinstance(default, bool):
        if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
            raise SettingsError(f"{variable} must be true or false, not {text!r}")
        return text.lower() in ("true", "1", "yes")
    if isinstance(default, int):
        if not (text.isascii() and text.isdigit() and 0 < int(text) < 1e6):
            raise SettingsError(f"{variable} must be a whole number of 1 or more, not {text!r}")
        return int(text)
    if isinstance(default, float):
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        # Where nothing is the default, nothing may be asked for by name.
        if not (0 < number < 1e6 or number == default):
            raise SettingsError(f"{variable} must be a positive number of {unit}, not {text!r}")
        return number
    return text

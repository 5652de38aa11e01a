"""What an operator decides about a stack, and the one local file that keeps it.

The settings live in the stack: most are its parameters, the edge's lie in its bucket (`settings/edge.env`), model and
profile in the release that serves. The file holds the same before the first `up`, and afterwards what is to change;
`agreed` is what file and stack last had in common, so that a colleague's change is noticed and never undone unasked.
There is no secret in it.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from chalicelib.domain.night import Night
from whisperctl.errors import UsageError
from whisperctl.releases.sources import ROOT
from whisperctl.stack import stack_name_of

FILE = Path("whisperctl.json")
DEFAULT_STAGE = "prod"
CERTIFICATES = ("domain", "address", "internal")
PROFILES = ("cuda", "cpu")
STAGE = re.compile(r"[a-z][a-z0-9-]{0,15}")
REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
CHOSEN_FOR_YOU = ("GpuImage", "EdgeImage", "ZoneA", "ZoneB")
"""Parameters that the first `up` works out where nobody said anything; they stay as they are then."""


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that `init` asks. `key` is a parameter of the stack, or one of the edge's or the GPU's own."""

    key: str
    option: str
    ask: str
    why: str
    check: Callable[[str], str] = lambda text: text
    """The answer in its stored form; ValueError with a sentence."""


def _night(text: str) -> str:
    if text:
        Night.parse(text)
    return text


def _zone(text: str) -> str:
    try:
        if text:
            ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"{text!r} is not an IANA time zone such as Europe/Berlin") from None
    return text


def _networks(text: str) -> str:
    found = []
    for word in text.replace(",", " ").split():
        try:
            found.append(str(ipaddress.ip_network(word)))
        except ValueError as error:
            raise ValueError(f"{word!r} is no network such as 192.0.2.7 or 198.51.100.0/24 ({error})") from None
    return " ".join(found)


def _one_of(*words: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is not one of {', '.join(words)}")
        return text

    return check


def _words(text: str) -> str:
    return " ".join(text.replace(",", " ").split())


def _model(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(=.+)?", text):
        raise ValueError(f"{text!r} is no model such as small.en, or small.en=FOLDER")
    return text


QUESTIONS = (
    Question(
        "GpuType",
        "gpu-type",
        "Type of the GPU machine",
        "g4dn.xlarge (0.53 $/h in us-east-1) serves large models.",
    ),
    Question(
        "GpuTypes",
        "gpu-types",
        "Types to try when AWS has none of it, best first",
        "Blank separated, such as: g4dn.xlarge g5.xlarge. Empty: that type or none.",
        _words,
    ),
    Question(
        "StandbyGpu",
        "standby",
        "A second GPU machine in another zone (true, false)",
        "It sleeps until the first one cannot be had; its disk is paid for.",
    ),
    Question(
        "ZoneA",
        "zone",
        "Zone of the edge and the first GPU machine",
        "Empty: the first zone that has both types.",
    ),
    Question(
        "ZoneB", "standby-zone", "Zone of the second GPU machine", "Empty: the next zone that has the type."
    ),
    Question(
        "model",
        "model",
        "Speech model",
        "tiny.en comes along; any other is given as NAME=FOLDER in CTranslate2's form.",
        _model,
    ),
    Question(
        "EdgeDomain",
        "domain",
        "Name of the edge, such as speech.example.org",
        "Empty: browsers use its fixed address.",
    ),
    Question(
        "certificate",
        "certificate",
        f"Certificate ({', '.join(CERTIFICATES)})",
        "domain and address: Let's Encrypt, for the name, or for the bare address (six days each, renewed alone). "
        "internal: the edge's own authority, which each browser has to be told to trust.",
        _one_of(*CERTIFICATES),
    ),
    Question(
        "clients",
        "clients",
        "Networks that may see the page and stream",
        "Blank separated, such as: 192.0.2.7 198.51.100.0/24. Empty: everybody who has a token.",
        _networks,
    ),
    Question(
        "Night",
        "night",
        "Night, in which no session is admitted",
        "Such as: 22:00-06:00 Europe/Berlin. Empty: none.",
        _night,
    ),
    Question(
        "TimeZone", "time-zone", "Time zone of days and weekly bookings", "Empty: the night's, else UTC.", _zone
    ),
    Question(
        "IdleMinutes",
        "idle-minutes",
        "Idle minutes",
        "How long the GPU stays awake after the last wish, at most.",
    ),
    Question("MonthlyBudget", "budget", "Monthly budget in dollars", "From 80 % of it a mail is sent. 0: none."),
    Question(
        "NotifyEmail",
        "email",
        "Who is written to",
        "AWS asks this address once to confirm. Empty: nobody. A webhook of Slack, Teams or ntfy is a secret and is "
        "set once the stack is there: whisperctl notify webhook.",
    ),
)
OWN_DEFAULTS = {"model": "tiny.en", "profile": "cuda", "python": "3.12", "certificate": "", "clients": ""}
OF_PYTHON = re.compile(r"-cp3(\d+)-cp3\1-")
"""In the name of a wheel that fits one Python only."""


@cache
def template_parameters(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """The parameters of the stack's template."""
    import yaml

    class Loader(yaml.SafeLoader):
        """CloudFormation's short forms are of no interest here."""

    Loader.add_multi_constructor(
        "!",
        lambda loader, _suffix, node: (
            loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None
        ),
    )
    with (root / ".chalice" / "resources.yaml").open() as text:
        found: dict[str, dict[str, Any]] = yaml.load(text, Loader)["Parameters"]  # noqa: S506  a safe loader
    return found


def questions() -> list[Question]:
    """Those that this checkout's template knows."""
    known = template_parameters()
    return [one for one in QUESTIONS if one.key in known or one.key in OWN_DEFAULTS]


def default(key: str) -> str:
    """What a question has when nobody answers it."""
    if key in OWN_DEFAULTS:
        return OWN_DEFAULTS[key]
    return _text(template_parameters()[key].get("Default", ""))


def checked(key: str, text: str) -> str:
    """An answer in its stored form; ValueError with a sentence."""
    question = next((one for one in QUESTIONS if one.key == key), None)
    value = question.check(text.strip()) if question else text.strip()
    if key == "python" and not re.fullmatch(r"3\.\d{1,2}", value):
        raise ValueError(f"{value!r} is not a version of Python such as 3.12")
    if key in OWN_DEFAULTS:
        return value
    about = template_parameters().get(key)
    if about is None:
        raise ValueError(f"there is no setting {key}; known are {', '.join(sorted(template_parameters()))}")
    allowed = [_text(one) for one in about.get("AllowedValues", [])]
    if allowed and value not in allowed:
        raise ValueError(f"{value!r} is not one of {', '.join(allowed)}")
    if "AllowedPattern" in about and not re.fullmatch(about["AllowedPattern"].strip("^$"), value):
        raise ValueError(f"{value!r} does not fit: {about['Description']}")
    if about["Type"] == "Number":
        if not re.fullmatch(r"\d+(\.\d+)?", value):
            raise ValueError(f"{value!r} is not a number")
        low, high = about.get("MinValue", float(value)), about.get("MaxValue", float(value))
        if not float(low) <= float(value) <= float(high):
            raise ValueError(f"{value} is not between {low} and {high}")
    return value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass
class Settings:
    """One stack's. `values` are parameters by name and the own keys; what is missing has its default."""

    stage: str
    region: str
    values: dict[str, str] = field(default_factory=dict)
    agreed: dict[str, str] | None = None
    """What the stack had when file and stack last agreed; None before the first `up`."""

    @property
    def stack(self) -> str:
        """What CloudFormation calls it."""
        return stack_name_of(self.stage)

    def get(self, key: str) -> str:
        return self.values.get(key, default(key))

    @property
    def certificate(self) -> str:
        return self.get("certificate") or ("domain" if self.get("EdgeDomain") else "address")

    def parameters(self) -> dict[str, str]:
        """What is said about the stack's parameters."""
        return {key: value for key, value in self.values.items() if key not in OWN_DEFAULTS}

    def check(self) -> None:
        """UsageError names the first setting that cannot be."""
        if not STAGE.fullmatch(self.stage):
            raise UsageError(
                f"{self.stage!r} is not the name of a stage, such as prod: a-z, 0-9 and -, 16 at most"
            )
        if not REGION.fullmatch(self.region):
            raise UsageError(f"{self.region!r} is not an AWS region such as eu-central-1")
        for key, value in self.values.items():
            try:
                self.values[key] = checked(key, value)
            except ValueError as error:
                raise UsageError(f"{_option(key)}: {error}") from None
        for key in ("ZoneA", "ZoneB"):
            zone = self.values.get(key, "")
            if zone and not re.fullmatch(rf"{re.escape(self.region)}[a-z]", zone):
                raise UsageError(
                    f"{_option(key)}: {zone!r} is not a zone of {self.region}, such as {self.region}a"
                )
        if self.values.get("ZoneA") and self.values.get("ZoneA") == self.values.get("ZoneB"):
            raise UsageError("--standby-zone: the second zone must be another one")
        if self.certificate == "domain" and not self.get("EdgeDomain"):
            raise UsageError("--certificate domain needs --domain")
        if float(self.get("MonthlyBudget") or 0) and not self.get("NotifyEmail"):
            raise UsageError("--budget needs --email: somebody must be written to")
        if self.values.get("VpcId") and not (self.values.get("SubnetA") and self.values.get("SubnetB")):
            raise UsageError("an existing VPC needs SubnetA and SubnetB too: --set SubnetA=subnet-…")

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        held: dict[str, Any] = {
            "stage": self.stage,
            "region": self.region,
            "settings": dict(sorted(self.values.items())),
        }
        if self.agreed is not None:
            held["agreed"] = dict(sorted(self.agreed.items()))
        new = path.with_name(f".{path.name}.new")
        try:
            new.write_text(json.dumps(held, indent=2, ensure_ascii=False) + "\n")
            new.replace(path)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from None

    @classmethod
    def read(cls, path: Path) -> Settings:
        """From the file; UsageError where there is none, or it is another thing."""
        try:
            held = json.loads(path.read_text())
            values = {str(key): str(value) for key, value in held["settings"].items()}
            agreed = held.get("agreed")
            read = cls(str(held["stage"]), str(held["region"]), values, None if agreed is None else dict(agreed))
        except FileNotFoundError:
            raise UsageError(f"there is no {path}: run `whisperctl init` first") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{path} is not what `whisperctl init` writes: {error}") from None
        read.check()
        return read


def _option(key: str) -> str:
    found = next((one.option for one in QUESTIONS if one.key == key), None)
    if key in ("profile", "python"):
        found = key
    return f"--{found}" if found else f"--set {key}"


def merged(settings: Settings, stack: Mapping[str, str]) -> dict[str, str]:
    """The parameters that the stack shall have: the file's changes over what the stack has.

    UsageError where both were changed since they last agreed, to different things.
    """
    wanted = settings.parameters()
    if settings.agreed is None:
        return {**stack, **wanted}
    result = dict(stack)
    for key, value in wanted.items():
        before, now = settings.agreed.get(key), stack.get(key)
        if value in (before, now):
            continue  # not changed here
        if now != before and before is not None:
            raise UsageError(
                f"{key} was changed in the stack too, to {now!r}, since this file agreed with it: "
                f"`whisperctl init --from-stack {settings.stage}` takes the stack's settings over"
            )
        result[key] = value
    return result


def edge_lines(settings: Settings, outputs: Mapping[str, str], held: str = "") -> str:
    """`settings/edge.env`: ours over what an operator put there otherwise. The same input, the same text."""
    api, _, stage = outputs["ApiUrl"].rpartition("/")
    site = outputs["EdgeUrl"].removeprefix("https://")
    ours = {
        "EDGE_SITE": site,
        "EDGE_ORIGINS": outputs["EdgeUrl"],
        "EDGE_API": api,
        "EDGE_API_STAGE": f"/{stage}",
        "EDGE_TLS": "tls_internal" if settings.certificate == "internal" else "tls_acme",
        "EDGE_STREAM_CLOSE_DELAY": "12h",
        "EDGE_OPEN_STREAMS": "off" if settings.get("RequireTicket") == "true" else "on",
        "EDGE_ACME_OPTIONS": "profile shortlived" if settings.certificate == "address" else "",
        "EDGE_EMAIL": settings.get("NotifyEmail"),
        "EDGE_CLIENTS": settings.get("clients"),
    }
    lines = lines_of(held)
    lines.update(ours)
    return "".join(f"{key}={value}\n" for key, value in sorted(lines.items()) if value)


def lines_of(text: str) -> dict[str, str]:
    """KEY=VALUE lines as a mapping; comments and blank lines fall out."""
    found = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in found}


def from_stack(
    stage: str, region: str, parameters: Mapping[str, str], edge: str, manifest: Mapping[str, Any] | None
) -> Settings:
    """What a stack has, as settings: for a colleague's file."""
    known = template_parameters()
    values = {key: value for key, value in parameters.items() if key in known}
    lines = lines_of(edge)
    if lines:
        acme = "address" if lines.get("EDGE_ACME_OPTIONS") else "domain"
        values["certificate"] = "internal" if lines.get("EDGE_TLS") == "tls_internal" else acme
        values["clients"] = lines.get("EDGE_CLIENTS", "")
    if manifest:
        values["profile"] = str(manifest.get("profile", OWN_DEFAULTS["profile"]))
        values["model"] = str(manifest.get("model", OWN_DEFAULTS["model"]))
        wheels = (OF_PYTHON.search(str(one["path"])) for one in manifest.get("files", ()))
        values["python"] = next((f"3.{found[1]}" for found in wheels if found), OWN_DEFAULTS["python"])
    return Settings(stage, region, values, {key: value for key, value in parameters.items() if key in known})

"""What AWS answered, written down so that a stand-in can be held against it; nothing in it is the operator's own.

A record is JSON: `{format, region, calls:[{service, operation, parameters, answer | error:{code}, at_s}]}`. Account
numbers, addresses, names, keys, tokens and contents are replaced (`redacted`); the same thing by the same word
everywhere, so that what belongs together still does. `differences` compares two records.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from whisperctl.errors import UsageError

FORMAT = 1
ACCOUNT = "123456789012"
SECRET_FIELDS = frozenset(
    {"Body", "d", "Item", "Items", "UserId", "DisplayName", "Owner", "TemplateBody", "Content"}
)
"""Fields whose content is left out whatever it is."""
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"wle_[A-Za-z0-9_-]{16,}"), "token"),
    (re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA|ANPA)[A-Z0-9]{12,}\b"), "key"),
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "mail"),
    (re.compile(r"\b[a-z0-9]{10}(?=\.execute-api\.)"), "api"),
    (re.compile(r"(?<=assumed-role/)[^\s\"]+|(?<=:user/)[^\s\"]+"), "who"),
    (re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])(?!/)"), "address"),
    (re.compile(r"\b[0-9a-f]{1,4}(?::[0-9a-f]{0,4}){3,7}\b"), "address6"),
)
_ACCOUNT = re.compile(r"(?<!\d)\d{12}(?!\d)")
_QUERY = re.compile(r"([?&]X-Amz-[A-Za-z-]+=)[^&\s\"]+")
_OPEN = ("0.0.0.0",)


class Recorder:
    """Hooks into a boto3 session, keeps what it is answered."""

    def __init__(self, domain: str = "") -> None:
        self.calls: list[dict[str, Any]] = []
        self._began = time.monotonic()
        self._words: dict[str, str] = {domain: "speech.example.org"} if domain else {}
        self._numbers = itertools.count(1)
        self._events: set[str] = set()

    def hook(self, session: Any) -> None:
        """Listen to every call of clients that this session makes from now on."""
        events = session.events
        events.register("provide-client-params", self._asked)
        events.register("after-call", self._answered)

    def _asked(self, params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["recorded"] = dict(params)

    def _answered(self, parsed: Mapping[str, Any], model: Any, context: Mapping[str, Any], **_: Any) -> None:
        call: dict[str, Any] = {
            "service": model.service_model.service_name,
            "operation": model.name,
            "parameters": self.redacted(context.get("recorded", {})),
            "at_s": round(time.monotonic() - self._began, 1),
        }
        error = parsed.get("Error")
        if error:
            call["error"] = {"code": str(error.get("Code", ""))}
        else:
            answer = {k: v for k, v in parsed.items() if k != "ResponseMetadata"}
            if "StackEvents" in answer:
                answer["StackEvents"] = self._new(answer["StackEvents"])
            call["answer"] = self.redacted(answer)
        last = next((one for one in reversed(self.calls) if one["operation"] == call["operation"]), None)
        if last is None or {**last, "at_s": 0} != {**call, "at_s": 0}:
            self.calls.append(call)  # a poll that saw nothing new is no news

    def _new(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The events that no earlier answer had: each look brings them all again."""
        new = [one for one in events if one["EventId"] not in self._events]
        self._events |= {one["EventId"] for one in new}
        return new

    def redacted(self, node: Any, field: str = "") -> Any:
        """The same without what is the operator's own."""
        if field in SECRET_FIELDS and node:
            return "left out"
        if isinstance(node, Mapping):
            return {str(key): self.redacted(value, str(key)) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [self.redacted(one, field) for one in node]
        if isinstance(node, datetime):
            return "a time"
        if isinstance(node, str):
            return self._text(node)
        return node if isinstance(node, int | float | bool) or node is None else "left out"

    def _text(self, text: str) -> str:
        text = _ACCOUNT.sub(ACCOUNT, _QUERY.sub(r"\1left-out", text))
        for own, word in self._words.items():
            if not word.startswith("address"):
                text = text.replace(own, word)
        for rule, kind in _RULES:
            text = rule.sub(lambda found, kind=kind: self._word(found[0], kind), text)  # type: ignore[misc]
        return text

    def _word(self, own: str, kind: str) -> str:
        if own in _OPEN or own in self._words.values():
            return own
        if own not in self._words:
            number = next(self._numbers)
            words = {
                "address": f"203.0.113.{number % 250}",
                "address6": f"2001:db8::{number:x}",
                "api": f"api{number:07d}",
                "mail": f"person{number}@example.org",
            }
            self._words[own] = words.get(kind, f"{kind}-{number}")
        return self._words[own]

    def write(self, path: Path, region: str = "") -> None:
        """The record, for its owner only until he has looked at it."""
        held = {"format": FORMAT, "region": region, "calls": self.calls}
        try:
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
            path.write_text(json.dumps(held, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        except OSError as error:
            raise UsageError(f"--record {path}: {error.strerror}") from None


def read(path: Path) -> list[dict[str, Any]]:
    """A record's calls; UsageError where it is none."""
    try:
        held = json.loads(path.read_text())
        if held["format"] != FORMAT:
            raise ValueError(f"format {held['format']} is not {FORMAT}")
        calls: list[dict[str, Any]] = held["calls"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no record of `whisperctl up --record`: {error}") from None
    return calls


def differences(recorded: list[dict[str, Any]], standin: list[dict[str, Any]]) -> list[str]:
    """Where the stand-in is other than what was recorded, a sentence each.

    Compared is what code can lean on: which calls there are, which errors they meet, that every field the stand-in
    gives is one that AWS gives and is of its type, and in which order a stack's resources pass through their states.
    """
    found = []
    ours, theirs = _by_operation(standin), _by_operation(recorded)
    for operation in sorted(theirs.keys() & ours.keys()):
        fields_there, fields_here = _fields(theirs[operation]), _fields(ours[operation])
        for field, kind in sorted(fields_here.items()):
            if fields_there and field not in fields_there:
                found.append(f"{operation}: the stand-in gives {field}, which was not recorded")
            elif fields_there and fields_there[field] != kind:
                found.append(f"{operation}: {field} is {kind} in the stand-in and was {fields_there[field]}")
        codes_there, codes_here = _codes(theirs[operation]), _codes(ours[operation])
        if codes_here - codes_there:
            named = ", ".join(sorted(codes_here - codes_there))
            found.append(f"{operation}: the stand-in answers {named}, which was not recorded")
        if codes_there - codes_here:
            named = ", ".join(sorted(codes_there - codes_here))
            found.append(f"{operation}: {named} was recorded, and the stand-in never answers it")
    missing = sorted(theirs.keys() - ours.keys())
    found += [f"{operation}: recorded, and not asked of the stand-in" for operation in missing]
    for kind, there in _states(recorded).items():
        here = _states(standin).get(kind, there)
        if here != there:
            found.append(f"{kind}: went through {' '.join(there)}, in the stand-in through {' '.join(here)}")
    return found


def _by_operation(calls: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for call in calls:
        found.setdefault(f"{call['service']} {call['operation']}", []).append(call)
    return found


def _codes(calls: list[dict[str, Any]]) -> set[str]:
    return {call["error"]["code"] for call in calls if "error" in call}


def _fields(calls: list[dict[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for call in calls:
        found |= dict(_paths(call.get("answer", {})))
    return found


def _paths(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _paths(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for one in node:
            yield from _paths(one, f"{path}[]")
    elif node is not None:
        yield path, {bool: "a truth", int: "a number", float: "a number"}.get(type(node), "a text")


def _states(calls: list[dict[str, Any]]) -> dict[str, list[str]]:
    """For each type of resource the states that its first one went through."""
    events: dict[str, dict[str, Any]] = {}
    for call in calls:
        if call["operation"] == "DescribeStackEvents":
            for one in reversed(call.get("answer", {}).get("StackEvents", [])):
                events.setdefault(one["EventId"], one)
    found: dict[str, list[str]] = {}
    first: dict[str, str] = {}
    for one in events.values():
        if first.setdefault(one["ResourceType"], one["LogicalResourceId"]) == one["LogicalResourceId"]:
            states = found.setdefault(one["ResourceType"], [])
            if states[-1:] != [one["ResourceStatus"]]:
                states.append(one["ResourceStatus"])
    return found

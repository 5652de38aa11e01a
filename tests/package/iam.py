"""Just enough of IAM to say whether a policy allows a call: statements, wildcards, and the conditions in use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Need:
    """One permission that a call asks for: an action on one resource, with what is known of both."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Statement:
    """One statement of a policy, its lists made lists."""

    sid: str
    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: Mapping[str, Mapping[str, tuple[str, ...]]]

    @classmethod
    def of(cls, text: Mapping[str, Any]) -> Statement:
        """Read a statement; KeyError for parts that this evaluator does not know."""
        unknown = set(text) - {"Sid", "Effect", "Action", "Resource", "Condition"}
        if unknown:
            raise KeyError(f"not understood here: {sorted(unknown)}")
        conditions = {
            operator: {key: _listed(values) for key, values in tests.items()}
            for operator, tests in text.get("Condition", {}).items()
        }
        return cls(
            text.get("Sid", ""), text["Effect"], _listed(text["Action"]), _listed(text["Resource"]), conditions
        )

    def covers(self, need: Need) -> bool:
        """Whether the statement speaks about this call."""
        return (
            any(_like(one.lower(), need.action.lower()) for one in self.actions)
            and any(_like(one, need.resource) for one in self.resources)
            and all(_holds(operator, tests, need.context) for operator, tests in self.conditions.items())
        )


def allowed(statements: Sequence[Statement], need: Need) -> bool:
    """IAM's rule: one Allow and no Deny."""
    speaking = [one for one in statements if one.covers(need)]
    return any(one.effect == "Allow" for one in speaking) and not any(one.effect == "Deny" for one in speaking)


def _holds(operator: str, tests: Mapping[str, Sequence[str]], context: Mapping[str, str]) -> bool:
    if operator not in ("StringEquals", "ArnLike", "StringLike"):
        raise KeyError(f"the operator {operator} is not understood here")
    for key, values in tests.items():
        given = context.get(key)
        if given is None:
            return False
        if not any(one == given if operator == "StringEquals" else _like(one, given) for one in values):
            return False
    return True


def _like(pattern: str, text: str) -> bool:
    parts = (".*" if one == "*" else "." if one == "?" else re.escape(one) for one in re.split(r"([*?])", pattern))
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def _listed(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)

"""SSM command documents (schema 2.2): parameters checked and put in as the service and the agent do it.

Source: https://docs.aws.amazon.com/systems-manager/latest/userguide/documents-syntax-data-elements-parameters.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from whisperctl.local.awsapi import AwsError

DEFAULT_EXECUTION_S = 3600


def fill_in(content: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, list[str]]:
    """The document's parameters with the caller's values or their defaults; raises InvalidParameters as SSM does."""
    declared: dict[str, Any] = content.get("parameters") or {}
    unknown = sorted(given.keys() - declared.keys())
    if unknown:
        raise AwsError("InvalidParameters", f"Parameter {unknown[0]} is not defined in the document.")
    values: dict[str, list[str]] = {}
    for name, about in declared.items():
        value = given.get(name, about.get("default"))
        if value is None:
            raise AwsError("InvalidParameters", f"Parameter {name} is required.")
        values[name] = [str(one) for one in value] if isinstance(value, list) else [str(value)]
        pattern = about.get("allowedPattern")
        allowed = about.get("allowedValues")
        for one in values[name]:
            # As Go's regexp does in the service: a match anywhere counts, so patterns must carry their anchors.
            if pattern is not None and not re.search(pattern, one):
                raise AwsError(
                    "InvalidParameters", f"Parameter value {one!r} of {name} must match pattern {pattern}."
                )
            if allowed is not None and one not in allowed:
                raise AwsError("InvalidParameters", f"Parameter {name} is one of {', '.join(map(str, allowed))}.")
    return values


def scripts(
    content: Mapping[str, Any], values: Mapping[str, list[str]]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """`[{name, script, timeout_s}]` of the document's steps with parameters put in, and the scripts' environment."""
    declared: dict[str, Any] = content.get("parameters") or {}
    environment = {
        f"SSM_{name}": ",".join(value)
        for name, value in values.items()
        if declared[name].get("interpolationType") == "ENV_VAR"
    }
    steps = []
    for step in content.get("mainSteps", []):
        if step.get("action") != "aws:runShellScript":
            raise AwsError("InvalidDocument", f"The action {step.get('action')} is not one this stand-in runs.")
        inputs = step.get("inputs", {})
        lines = inputs.get("runCommand", [])
        if isinstance(lines, str):
            name = lines.strip("{} ")
            script = "\n".join(values.get(name, []))
        else:
            script = _put_in("\n".join(lines), values)
        timeout = _put_in(str(inputs.get("timeoutSeconds", DEFAULT_EXECUTION_S)), values)
        steps.append({"name": step.get("name", "script"), "script": script, "timeout_s": float(timeout)})
    return steps, environment


def _put_in(text: str, values: Mapping[str, list[str]]) -> str:
    def value(found: re.Match[str]) -> str:
        return " ".join(values[found[1]]) if found[1] in values else found[0]

    return re.sub(r"\{\{\s*(\w+)\s*\}\}", value, text)

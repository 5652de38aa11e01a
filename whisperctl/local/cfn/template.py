"""A template as CloudFormation reads it: SAM's two types expanded, conditions, intrinsic functions, the order."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_HOLE = re.compile(r"\$\{(!?)([^}]+)\}")
SAM = "AWS::Serverless-2016-10-31"
NO_VALUE = "AWS::NoValue"


class BadTemplate(ValueError):
    """CloudFormation would refuse it; the message is its sentence."""


def expanded(template: Mapping[str, Any]) -> dict[str, Any]:
    """The template with SAM's functions and API as the resources they stand for, as far as these templates use them.

    https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-specification-generated-resources.html
    """
    resources: dict[str, Any] = {}
    for name, one in template.get("Resources", {}).items():
        match one["Type"]:
            case "AWS::Serverless::Function":
                resources |= _function(name, one)
            case "AWS::Serverless::Api":
                resources |= _api(name, one)
            case _:
                resources[name] = one
    return {**template, "Resources": resources}


def _function(name: str, one: Mapping[str, Any]) -> dict[str, Any]:
    given = dict(one.get("Properties", {}))
    events, asynchronous = given.pop("Events", {}), given.pop("EventInvokeConfig", None)
    code = given.pop("CodeUri", None)
    made = {name: {**one, "Type": "AWS::Lambda::Function", "Properties": {**given, "Code": code}}}
    if asynchronous:
        settings = {**asynchronous, "FunctionName": {"Ref": name}, "Qualifier": "$LATEST"}
        made[f"{name}EventInvokeConfig"] = {"Type": "AWS::Lambda::EventInvokeConfig", "Properties": settings}
    for event, about in events.items():
        rule = {**about["Properties"], "Targets": [{"Arn": {"Fn::GetAtt": [name, "Arn"]}, "Id": event}]}
        if "Schedule" in rule:
            rule["ScheduleExpression"] = rule.pop("Schedule")
        if "Pattern" in rule:
            rule["EventPattern"] = rule.pop("Pattern")
        made[f"{name}{event}"] = {"Type": "AWS::Events::Rule", "Properties": rule}
        made[f"{name}{event}Permission"] = {
            "Type": "AWS::Lambda::Permission",
            "Properties": {"FunctionName": {"Ref": name}, "SourceArn": {"Fn::GetAtt": [f"{name}{event}", "Arn"]}},
        }
    return made


def _api(name: str, one: Mapping[str, Any]) -> dict[str, Any]:
    given = one.get("Properties", {})
    api = {
        key: value for key, value in given.items() if key in ("DefinitionBody", "EndpointConfiguration", "Tags")
    }
    stage = {
        key: value for key, value in given.items() if key in ("AccessLogSetting", "MethodSettings", "StageName")
    }
    return {
        name: {"Type": "AWS::ApiGateway::RestApi", "Properties": api},
        f"{name}Deployment": {"Type": "AWS::ApiGateway::Deployment", "Properties": {"RestApiId": {"Ref": name}}},
        f"{name}Stage": {
            "Type": "AWS::ApiGateway::Stage",
            "Properties": {**stage, "RestApiId": {"Ref": name}, "DeploymentId": {"Ref": f"{name}Deployment"}},
        },
    }


@dataclass
class Made:
    """A resource as it lies in the account; `attributes` are what GetAtt knows."""

    logical: str
    type: str
    physical: str
    attributes: dict[str, str] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)


class Scope:
    """Values of parameters, pseudo parameters and resources; what is not made yet is unknown."""

    def __init__(
        self,
        template: Mapping[str, Any],
        parameters: Mapping[str, str],
        pseudo: Mapping[str, str],
        zones: list[str],
    ) -> None:
        self.template = template
        self.parameters = _checked(template, parameters)
        self._pseudo = pseudo
        self._zones = zones
        self.made: dict[str, Made] = {}
        self.strict = True
        """False: what is not made yet is shown by its name, as a change set shows it."""

    def wanted(self) -> list[str]:
        """The resources whose condition holds, each after those it refers to."""
        names = {n for n, one in self.template["Resources"].items() if self._holds(one.get("Condition"))}
        ordered: list[str] = []
        visiting: set[str] = set()

        def visit(name: str) -> None:
            if name in ordered or name not in names:
                return
            if name in visiting:
                raise BadTemplate(f"Circular dependency between resources: [{', '.join(sorted(visiting))}]")
            visiting.add(name)
            one = self.template["Resources"][name]
            after = one.get("DependsOn", [])
            for other in [
                *([after] if isinstance(after, str) else after),
                *self._names(one.get("Properties", {})),
            ]:
                visit(other)
            visiting.discard(name)
            ordered.append(name)

        for name in self.template["Resources"]:
            visit(name)
        return ordered

    def properties(self, name: str) -> dict[str, Any]:
        """A resource's properties with every function worked out."""
        found = self.value(self.template["Resources"][name].get("Properties", {}))
        return dict(found)

    def outputs(self) -> list[dict[str, str]]:
        return [
            {"OutputKey": key, "OutputValue": str(self.value(one["Value"]))}
            for key, one in self.template.get("Outputs", {}).items()
            if self._holds(one.get("Condition"))
        ]

    def value(self, node: Any) -> Any:
        """Work a piece of the template out."""
        if isinstance(node, list):
            return [done for done in map(self.value, node) if done is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((name, argument),) = node.items()
            function = self._functions().get(name)
            if function is not None:
                return function(argument)
        done = {key: self.value(one) for key, one in node.items()}
        return {key: one for key, one in done.items() if one is not NO_VALUE}

    def _functions(self) -> dict[str, Callable[[Any], Any]]:
        return {
            "Ref": self._ref,
            "Fn::GetAtt": self._attribute,
            "Fn::Sub": self._substituted,
            "Fn::If": lambda a: self.value(a[1] if self._holds(a[0]) else a[2]),
            "Fn::Join": lambda a: str(a[0]).join(map(str, self.value(a[1]))),
            "Fn::Select": lambda a: self.value(a[1])[int(self.value(a[0]))],
            "Fn::Split": lambda a: str(self.value(a[1])).split(a[0]),
            "Fn::GetAZs": lambda _: self._zones,
            "Fn::Cidr": self._cidr,
            "Fn::Base64": self.value,
            "Fn::Equals": lambda a: str(self.value(a[0])) == str(self.value(a[1])),
            "Fn::Not": lambda a: not self._truth(a[0]),
            "Fn::And": lambda a: all(map(self._truth, a)),
            "Fn::Or": lambda a: any(map(self._truth, a)),
            "Condition": self._holds,
            "Fn::FindInMap": lambda a: self.template["Mappings"][self.value(a[0])][self.value(a[1])][
                self.value(a[2])
            ],
        }

    def _truth(self, node: Any) -> bool:
        return bool(self.value(node))

    def _holds(self, condition: str | None) -> bool:
        if condition is None:
            return True
        if condition not in self.template.get("Conditions", {}):
            raise BadTemplate(f"Template format error: Unresolved condition dependency {condition}")
        return self._truth(self.template["Conditions"][condition])

    def _ref(self, name: str) -> Any:
        if name == NO_VALUE:
            return NO_VALUE
        if name in self._pseudo:
            return self._pseudo[name]
        if name in self.parameters:
            return self.parameters[name]
        return self._resource(name).physical

    def _attribute(self, argument: Any) -> Any:
        name, _, attribute = (argument if isinstance(argument, str) else ".".join(argument)).partition(".")
        made = self._resource(name)
        return made.attributes.get(attribute, f"{made.physical}.{attribute}")

    def _resource(self, name: str) -> Made:
        if name in self.made:
            return self.made[name]
        if name not in self.template["Resources"] or self.strict:
            raise BadTemplate(f"Template format error: Unresolved resource dependencies [{name}] in the template")
        return Made(name, "", f"{{{{{name}}}}}")

    def _substituted(self, argument: Any) -> str:
        text, own = (argument, {}) if isinstance(argument, str) else argument
        known = {name: self.value(one) for name, one in own.items()}

        def fill(hole: re.Match[str]) -> str:
            literal, name = hole[1], hole[2].strip()
            if literal:
                return f"${{{name}}}"
            if name in known:
                return str(known[name])
            return str(self._attribute(name) if "." in name else self._ref(name))

        return _HOLE.sub(fill, text)

    def _cidr(self, argument: Any) -> list[str]:
        block, count, bits = (self.value(one) for one in argument)
        network = ipaddress.ip_network(str(block))
        found = network.subnets(new_prefix=network.max_prefixlen - int(bits))
        return [str(one) for one, _ in zip(found, range(int(count)), strict=False)]

    def _names(self, node: Any) -> Iterator[str]:
        """The resources that a piece refers to, in branches that are taken."""
        if isinstance(node, list):
            for one in node:
                yield from self._names(one)
        elif isinstance(node, dict):
            for key, one in node.items():
                if key == "Ref":
                    yield str(one)
                elif key == "Fn::GetAtt":
                    yield one.partition(".")[0] if isinstance(one, str) else one[0]
                elif key == "Fn::If":
                    yield from self._names(one[1] if self._holds(one[0]) else one[2])
                elif key == "Fn::Sub":
                    text = one if isinstance(one, str) else one[0]
                    yield from (hole[2].partition(".")[0] for hole in _HOLE.finditer(text) if not hole[1])
                    yield from () if isinstance(one, str) else self._names(one[1])
                else:
                    yield from self._names(one)


def _checked(template: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """Parameters with their defaults, or what CloudFormation says against them."""
    known = template.get("Parameters", {})
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise BadTemplate(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    values = {name: str(one["Default"]) for name, one in known.items() if "Default" in one} | dict(given)
    missing = [name for name in known if name not in values]
    if missing:
        raise BadTemplate(f"Parameters: [{', '.join(missing)}] must have values")
    for name, one in known.items():
        value = values[name]
        if "AllowedPattern" in one and not re.fullmatch(one["AllowedPattern"], value):
            raise BadTemplate(f"Parameter '{name}' must match pattern {one['AllowedPattern']}")
        if "AllowedValues" in one and value not in map(_plain, one["AllowedValues"]):
            raise BadTemplate(f"Parameter '{name}' must be one of AllowedValues")
        if one["Type"] == "Number":
            if not re.fullmatch(r"-?\d+(\.\d+)?", value):
                raise BadTemplate(f"Parameter '{name}' must be a number.")
            low, high = one.get("MinValue", float(value)), one.get("MaxValue", float(value))
            if not float(low) <= float(value) <= float(high):
                raise BadTemplate(f"Parameter '{name}' must be a number between {low} and {high}")
    return values


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

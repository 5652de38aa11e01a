"""A thing in the account that carries a stack's tag, and what a kind of things is to the sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from whisperctl.deployment.cloud import TAG, Cloud


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing in the account. `kind` as in `KINDS`; `about` says what it is to a person."""

    kind: str
    id: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind is found by its tag, and deleted."""

    find: Callable[[Cloud, str], Iterator[Thing]]
    delete: Callable[[Cloud, Thing], None]


def arns(cloud: Cloud, stack: str) -> Iterator[str]:
    """What the tagging API lists under the tag. Never asked by type: an unknown name of a type is an empty answer."""
    pages = cloud.client("resourcegroupstaggingapi").get_paginator("get_resources")
    for page in pages.paginate(TagFilters=[{"Key": TAG, "Values": [stack]}]):
        for one in page["ResourceTagMappingList"]:
            yield str(one["ResourceARN"])

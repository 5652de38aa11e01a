"""A thing in the account that carries a stack's tag, and what a kind of things is to the sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from whisperctl.deployment.cloud import TAG, Cloud


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing in the account. `kind` as in `KINDS`; `about` says what it is to a person."""

    kind: str
    id: str
    about: str = ""


@dataclass
class Look:
    """One look at everything of a stack; the tagging API is asked once for all kinds."""

    cloud: Cloud
    stack: str

    def client(self, service: str) -> Any:
        return self.cloud.client(service)

    @cached_property
    def arns(self) -> tuple[str, ...]:
        """What the tagging API lists. Never asked by type: an unknown name of a type is an empty answer."""
        pages = self.client("resourcegroupstaggingapi").get_paginator("get_resources")
        return tuple(
            str(one["ResourceARN"])
            for page in pages.paginate(TagFilters=[{"Key": TAG, "Values": [self.stack]}])
            for one in page["ResourceTagMappingList"]
        )


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind is found by its tag, and deleted."""

    find: Callable[[Look], Iterator[Thing]]
    delete: Callable[[Cloud, Thing], None]

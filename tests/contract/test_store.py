"""The store's contract: the same cases against the fake and DynamoDB."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from chalicelib.aws.clients import Clients
from chalicelib.aws.store import DynamoStore, table_definition
from chalicelib.errors import StoreConflict, Unavailable
from chalicelib.ports import Check, Delete, Key, Put, Store, Turn
from tests.fakes import MemoryStore

A, B, C = Key("p", "a"), Key("p", "b"), Key("p", "c")


@pytest.fixture(params=["memory", "dynamodb"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    with mock_aws():
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        boto3.client("dynamodb").create_table(**table_definition("t"))
        yield DynamoStore(Clients("eu-central-1"), "t")


def test_what_is_written_is_read(store: Store) -> None:
    data = {"text": "ä", "number": 1.5, "none": None, "list": [1, {"deep": True}]}
    store.write(Put(A, data, expires_at=1_900_000_000.0))
    record = store.get(A)
    assert record is not None
    assert (record.key, record.version, dict(record.data), record.expires_at) == (A, 1, data, 1_900_000_000.0)
    assert store.get(B) is None


def test_versions_grow_with_every_write(store: Store) -> None:
    for expected in (1, 2, 3):
        store.write(Put(A, {"n": expected}))
        record = store.get(A)
        assert record is not None
        assert record.version == expected


@pytest.mark.parametrize("expect", [1, 3])
def test_a_wrong_expectation_is_a_conflict_and_writes_nothing(store: Store, expect: int) -> None:
    store.write(Put(A, {"x": 1}))
    store.write(Put(A, {"x": 2}))
    with pytest.raises(StoreConflict):
        store.write(Put(A, {"x": 3}, expect=expect))
    record = store.get(A)
    assert record is not None
    assert record.data["x"] == 2


def test_expecting_absence(store: Store) -> None:
    store.write(Put(A, {"x": 1}, expect=0))
    with pytest.raises(StoreConflict):
        store.write(Put(A, {"x": 2}, expect=0))
    with pytest.raises(StoreConflict):
        store.write(Put(B, {"x": 2}, expect=1))


def test_a_transaction_is_all_or_nothing(store: Store) -> None:
    store.write(Put(A, {"x": 1}))
    with pytest.raises(StoreConflict):
        store.write(Put(B, {"x": 1}), Put(C, {"x": 1}), Put(A, {"x": 2}, expect=7))
    assert store.get(B) is None
    store.write(Put(B, {"x": 1}, expect=0), Delete(A, expect=1), Put(C, {"x": 1}))
    assert store.get(A) is None
    assert [one.key for one in store.partition("p")] == [B, C]


def test_a_check_guards_a_transaction(store: Store) -> None:
    store.write(Put(A, {"x": 1}))
    store.write(Check(A, 1), Put(B, {"x": 1}))
    with pytest.raises(StoreConflict):
        store.write(Check(A, 2), Put(C, {"x": 1}))
    assert store.get(C) is None
    with pytest.raises(StoreConflict):
        store.write(Check(C, 1), Put(B, {"x": 2}))


def test_a_check_for_absence(store: Store) -> None:
    store.write(Check(A, 0), Put(B, {"x": 1}))
    with pytest.raises(StoreConflict):
        store.write(Check(B, 0), Put(C, {"x": 1}))


def test_deleting_what_is_not_there(store: Store) -> None:
    store.write(Delete(A))
    with pytest.raises(StoreConflict):
        store.write(Delete(A, expect=1))


def test_a_partition_is_ordered_and_paged(store: Store) -> None:
    for number in (3, 1, 2):
        store.write(Put(Key("p", f"k{number}"), {"n": number}))
    store.write(Put(Key("q", "k0"), {}))
    assert [one.key.sk for one in store.partition("p")] == ["k1", "k2", "k3"]
    assert [one.key.sk for one in store.partition("p", after="k1")] == ["k2", "k3"]
    assert [one.key.sk for one in store.partition("p", after="k0", limit=2)] == ["k1", "k2"]
    assert store.partition("nobody") == []


def test_a_partition_larger_than_one_page(store: Store) -> None:
    for number in range(6):
        store.write(Put(Key("p", f"k{number}"), {"text": "x" * 300_000}))
    assert len(store.partition("p")) == 6


def test_counting(store: Store) -> None:
    assert [store.add(A), store.add(A), store.add(A, 3)] == [1, 2, 5]
    record = store.get(A)
    assert record is not None
    assert dict(record.data) == {"n": 5}


def test_turns_at_a_counter(store: Store) -> None:
    assert store.turn(A, 1000.25, 1.0) == Turn(True, 1000.25, 0)
    store.add(A, 3)
    assert store.turn(A, 1001.0, 1.0) == Turn(False, 1000.25, 0), "too soon, and it saw nothing of the three"
    assert store.turn(A, 1001.25, 1.0) == Turn(True, 1001.25, 3)
    assert store.add(A) == 4
    assert store.turn(A, 1001.3, 1.0) == Turn(False, 1001.25, 3)
    assert store.turn(A, 900.0, 1.0) == Turn(True, 900.0, 4), "a clock that was set back holds nobody up"
    record = store.get(A)
    assert record is not None
    assert dict(record.data) == {"n": 4}
    assert [one.key for one in store.partition("p")] == [A]


def test_no_table_is_unavailable_and_no_conflict() -> None:
    with mock_aws():
        store = DynamoStore(Clients("eu-central-1"), "missing")
        with pytest.raises(Unavailable, match="ResourceNotFoundException"):
            store.get(A)
        with pytest.raises(Unavailable):
            store.write(Put(A, {}), Put(B, {}))

"""The store on one DynamoDB table.

Attributes: pk, sk, `v` (version), `d` (the data as JSON text, so that floats stay floats), `n` (counters) and
`ttl` (epoch seconds; DynamoDB deletes late, so readers compare times themselves).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import StoreConflict, Unavailable
from chalicelib.ports import Check, Delete, Key, Put, Record, Turn, Write

if TYPE_CHECKING:
    from chalicelib.aws.clients import Clients

_CONFLICTS = {"ConditionalCheckFailed", "TransactionConflict"}


def table_definition(name: str) -> dict[str, Any]:
    """The arguments of CreateTable; time to live is set on the attribute `ttl`."""
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        "AttributeDefinitions": [
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
    }


class DynamoStore:
    """`chalicelib.ports.Store`."""

    def __init__(self, clients: Clients, table: str) -> None:
        self._clients = clients
        self._table = table

    def prepare(self) -> None:
        """Make the client now, which the first call would make."""
        _ = self._clients.dynamodb

    def partition(self, pk: str, after: str = "", limit: int | None = None) -> list[Record]:
        condition, values = "pk = :pk", {":pk": {"S": pk}}
        if after:
            condition, values = "pk = :pk AND sk > :after", {**values, ":after": {"S": after}}
        arguments: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": values,
            "ConsistentRead": True,
        }
        if limit is not None:
            arguments["Limit"] = limit
        found: list[Record] = []
        while True:
            page = self._call("query", arguments)
            found += [_record(item) for item in page["Items"]]
            if "LastEvaluatedKey" not in page or (limit is not None and len(found) >= limit):
                return found if limit is None else found[:limit]
            arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def get(self, key: Key) -> Record | None:
        answer = self._call("get_item", {"TableName": self._table, "Key": _key(key), "ConsistentRead": True})
        return _record(answer["Item"]) if "Item" in answer else None

    def write(self, *writes: Write) -> None:
        if len(writes) == 1 and not isinstance(writes[0], Check):
            ((kind, arguments),) = _operation(self._table, writes[0]).items()
            self._call("update_item" if kind == "Update" else "delete_item", arguments)
        elif writes:
            self._call("transact_write_items", {"TransactItems": [_operation(self._table, one) for one in writes]})

    def add(self, key: Key, amount: int = 1) -> int:
        answer = self._call(
            "update_item",
            {
                "TableName": self._table,
                "Key": _key(key),
                "UpdateExpression": "ADD n :amount, v :one",
                "ExpressionAttributeValues": {":amount": {"N": str(amount)}, ":one": {"N": "1"}},
                "ReturnValues": "UPDATED_NEW",
            },
        )
        return int(answer["Attributes"]["n"]["N"])

    def turn(self, key: Key, now: float, every_s: float) -> Turn:
        # A turn of the future is of a clock that was set back: it holds nobody up.
        condition = "attribute_not_exists(turn_at) OR turn_at <= :before OR turn_at >= :after"
        count = "if_not_exists(n, :zero)"
        stamps = {":now": now, ":before": now - every_s, ":after": now + every_s, ":zero": 0}
        arguments = {
            "TableName": self._table,
            "Key": _key(key),
            "ConditionExpression": condition,
            "UpdateExpression": f"SET turn_at = :now, n = {count}, upto = {count} ADD v :one",
            "ExpressionAttributeValues": {name: {"N": repr(value)} for name, value in (stamps | {":one": 1}).items()},
            "ReturnValues": "ALL_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            item, taken = self._call("update_item", arguments)["Attributes"], True
        except StoreConflict as conflict:
            refused: Any = conflict.__cause__
            item, taken = refused.response["Item"], False
        return Turn(taken, float(item["turn_at"]["N"]), int(item["upto"]["N"]))

    def _call(self, operation: str, arguments: dict[str, Any]) -> Any:
        try:
            return getattr(self._clients.dynamodb, operation)(**arguments)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ConditionalCheckFailedException":
                raise StoreConflict(f"{operation}: {code}") from error
            if code == "TransactionCanceledException":
                reasons = {one.get("Code") for one in error.response.get("CancellationReasons", [])}
                if reasons & _CONFLICTS or not reasons:
                    raise StoreConflict(f"{operation}: {sorted(filter(None, reasons))}") from error
            raise Unavailable(f"The table does not answer ({code}).") from error
        except BotoCoreError as error:
            raise Unavailable(f"The table cannot be reached ({type(error).__name__}).") from error


def _key(key: Key) -> dict[str, Any]:
    return {"pk": {"S": key.pk}, "sk": {"S": key.sk}}


def _record(item: dict[str, Any]) -> Record:
    data = json.loads(item["d"]["S"]) if "d" in item else {"n": int(item["n"]["N"])}
    ttl = float(item["ttl"]["N"]) if "ttl" in item else None
    return Record(Key(item["pk"]["S"], item["sk"]["S"]), int(item["v"]["N"]), data, ttl)


def _condition(expect: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    if expect is None:
        return {}, {}
    if expect == 0:
        return {"ConditionExpression": "attribute_not_exists(pk)"}, {}
    return {"ConditionExpression": "v = :expect"}, {":expect": {"N": str(expect)}}


def _operation(table: str, write: Write) -> dict[str, Any]:
    base: dict[str, Any] = {"TableName": table, "Key": _key(write.key)}
    match write:
        case Put():
            condition, values = _condition(write.expect)
            values |= {":d": {"S": json.dumps(write.data, separators=(",", ":"))}, ":one": {"N": "1"}}
            expression, names = "SET d = :d", {}
            if write.expires_at is not None:
                # `ttl` is one of DynamoDB's reserved words.
                expression, names = "SET d = :d, #ttl = :ttl", {"ExpressionAttributeNames": {"#ttl": "ttl"}}
                values[":ttl"] = {"N": str(int(write.expires_at))}
            return {
                "Update": {
                    **base,
                    **condition,
                    **names,
                    "UpdateExpression": f"{expression} ADD v :one",
                    "ExpressionAttributeValues": values,
                }
            }
        case Delete():
            condition, values = _condition(write.expect)
            more = {"ExpressionAttributeValues": values} if values else {}
            return {"Delete": {**base, **condition, **more}}
        case Check():
            condition, values = _condition(write.version)
            more = {"ExpressionAttributeValues": values} if values else {}
            return {"ConditionCheck": {**base, **condition, **more}}

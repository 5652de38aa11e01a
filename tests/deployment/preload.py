"""What the server of forked runs loads once: the command's libraries, and the models of the services it calls."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import boto3
import httpx

import whisperctl.commands.deploy
import whisperctl.deployment.destroy
import whisperctl.deployment.up  # noqa: F401

SERVICES = ("sts", "s3", "cloudformation", "ssm", "ec2", "dynamodb", "service-quotas", "resourcegroupstaggingapi",
            "iam", "logs", "sns", "cloudwatch", "lambda")  # fmt: skip
SESSION = boto3.Session(region_name="us-east-1")
_make: Any = SESSION.client
for _service in SERVICES:
    _make(_service, aws_access_key_id="x", aws_secret_access_key="x", endpoint_url="http://127.0.0.1:1")  # noqa: S106


def on_call(operation: str, when: str, number: int, act: Callable[[], None]) -> None:
    """Act before or after the `number`th call of an AWS operation, or of the HTTP API (`POST /v1/…`)."""
    count = itertools.count(1)

    def met(**_: Any) -> None:
        if next(count) == number:
            act()
            # A signal to ourselves may take a moment. Only the main thread hears it, and waits for the others.
            if threading.current_thread() is threading.main_thread():
                time.sleep(5)

    if not operation.startswith(("POST ", "GET ")):
        SESSION.events.register(f"{'before' if when == 'before' else 'after'}-call.*.{operation}", met)
        return
    verb, _, path = operation.partition(" ")
    send = httpx.Client.request

    def request(self: httpx.Client, method: str, url: Any, **more: Any) -> httpx.Response:
        fits = method == verb and path in str(url)
        if fits and when == "before":
            met()
        answer = send(self, method, url, **more)
        if fits and when == "after":
            met()
        return answer

    httpx.Client.request = request  # type: ignore[method-assign]

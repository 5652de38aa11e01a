"""The account as the deployment uses it: clients of one region, and what AWS says against a call in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from whisperctl.errors import CtlError, NotReachable, UsageError

TAG = "whisperlive-edge:stack"
"""The tag that everything of a stack carries; what lacks it is never touched."""
_BAD_CREDENTIALS = (
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
)
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")


class NotAllowed(CtlError):
    """The operator's own AWS rights do not reach."""

    exit_code = 3


@dataclass
class Cloud:
    """Clients of one region with the operator's rights, made when they are first needed."""

    region: str
    on_session: Callable[[Any], None] = lambda _session: None
    """Told the boto3 session before any client is made: the recorder hooks in here."""
    _made: dict[str, Any] = field(default_factory=dict)
    _session: Any = None

    def client(self, service: str) -> Any:
        import boto3
        from botocore.config import Config

        if service not in self._made:
            if self._session is None:
                self._session = boto3.Session(region_name=self.region)
                self.on_session(self._session)
            config = Config(
                retries={"total_max_attempts": 8, "mode": "standard"},
                connect_timeout=10,
                read_timeout=60,
                signature_version="s3v4" if service == "s3" else None,
            )
            make: Any = self._session.client  # its overloads know only literal service names
            try:
                self._made[service] = make(service, config=config)
            except ValueError as error:  # AWS_ENDPOINT_URL, or the profile's endpoint_url
                raise UsageError(f"AWS_ENDPOINT_URL is no address: {error}") from None
        return self._made[service]

    def account(self) -> str:
        """The account's number; the first call of all, so bad credentials show here."""
        with plainly():
            return str(self.client("sts").get_caller_identity()["Account"])


@contextmanager
def plainly() -> Iterator[None]:
    """What AWS says against a call: no credentials (2), no right to it (3), not reachable (5), else refused (1)."""
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        NoRegionError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    try:
        yield
    except ClientError as error:
        code = error_code(error)
        said = str(error.response.get("Error", {}).get("Message") or code)
        if code in _BAD_CREDENTIALS:
            raise UsageError(
                "AWS does not take these credentials: sign in again, or look at AWS_PROFILE"
            ) from None
        if code in _DENIED:
            raise NotAllowed(f"your AWS rights do not allow {error.operation_name}: {said}") from None
        raise CtlError(f"AWS refused {error.operation_name}: {said}") from None
    except S3UploadFailedError as error:
        raise CtlError(f"AWS refused an upload: {error}") from None
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound) as error:
        raise UsageError(f"no AWS credentials: {str(error).rstrip('.')}") from None
    except NoRegionError:
        raise UsageError("no AWS region is named: run `whisperctl init`, or set AWS_REGION") from None
    except BotoCoreError as error:
        raise NotReachable(f"AWS is not reachable: {error}") from None


def error_code(error: Any) -> str:
    """The code of a ClientError."""
    return str(error.response.get("Error", {}).get("Code", ""))


def tags_of(stack: str) -> list[dict[str, str]]:
    return [{"Key": TAG, "Value": stack}]

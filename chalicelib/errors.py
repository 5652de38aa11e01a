"""Every error the control plane raises on purpose, as one tree that carries data.

`Refused` is what a caller did or met, and becomes problem+json in `web.py` and nowhere else:

    Refused
    ├── BadRequest         the body or a parameter cannot be read
    ├── Unauthenticated    no token, or one that is unknown, expired or revoked
    ├── Forbidden          the token's role is too low, or the caller is not that host
    ├── NotFound           no such session, host or path
    ├── Gone               it was there and is over; `data` says since when and why
    ├── Conflict           the stack's state forbids it now (night, closed, asleep)
    ├── Invalid            readable, but a field is unknown, mistyped or out of range
    ├── TooMany            the caller has as much of it as one token may have
    └── Unavailable        a service behind us does not answer; asking again helps

The others stay inside: `StoreConflict` (a conditional write met another writer), `MachineRefused` (EC2 said
no, with the kind of no) and `CommandRefused` (SSM said no).
"""

from __future__ import annotations

from enum import StrEnum


class Refused(Exception):
    """A refusal a person reads: `detail` is one sentence, `data` what is pending or wrong."""

    def __init__(self, detail: str, **data: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.data = data


class BadRequest(Refused):
    """The body or a parameter cannot be read."""


class Unauthenticated(Refused):
    """No token, or one that is unknown, expired or revoked."""


class Forbidden(Refused):
    """The token's role is too low, or the caller is not the host it speaks for."""


class NotFound(Refused):
    """No such thing, or not this caller's."""


class Gone(Refused):
    """It was there and is over."""


class Conflict(Refused):
    """The stack's state forbids it now."""


class Invalid(Refused):
    """Readable, but a field is unknown, mistyped or out of range."""


class TooMany(Refused):
    """The caller has as much of it as one token may have."""


class Unavailable(Refused):
    """A service behind us does not answer."""


class StoreConflict(Exception):
    """A conditional write found another version than the one it was made for."""


class RefusalKind(StrEnum):
    """Why EC2 refused, as far as it changes what is done next."""

    CAPACITY = "capacity"
    QUOTA = "quota"
    STATE = "state"
    THROTTLED = "throttled"
    OTHER = "other"


class MachineRefused(Exception):
    """EC2 refused a call. `code` is EC2's error code, `message` its own words."""

    def __init__(self, kind: RefusalKind, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.kind = kind
        self.code = code
        self.message = message


class CommandRefused(Exception):
    """SSM did not take a command. `code` is SSM's error code, `message` its own words."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class NotifyFailed(Exception):
    """A channel did not take a message; the text says why and holds no address."""

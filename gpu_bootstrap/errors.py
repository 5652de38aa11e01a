"""What can go wrong in the launcher, each with one sentence for the person who reads it.

LauncherError
├── ConfigurationError      a setting is missing or wrong
├── ModelError              the model is missing, not the expected one, or does not load
│   └── ModelLostError      and the one before does not load again either
├── HandshakeError          a client's first message is not one we serve
├── FrameError              a client's audio frame is not one we serve
├── TicketError             a session's ticket is missing, wrong or expired
│   └── UnknownKeyError     it is signed by a key this host has not (yet) heard of
└── HostFullError           no place for another stream
"""

from __future__ import annotations


class LauncherError(Exception):
    """Base of all errors here; `str(error)` is the sentence."""


class ConfigurationError(LauncherError):
    pass


class ModelError(LauncherError):
    pass


class ModelLostError(ModelError):
    pass


class HandshakeError(LauncherError):
    pass


class FrameError(LauncherError):
    pass


class TicketError(LauncherError):
    pass


class UnknownKeyError(TicketError):
    pass


class HostFullError(LauncherError):
    pass

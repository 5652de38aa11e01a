"""What does not work: one tree.

    LinkError            something did not work this time
      SettingsError      a setting is missing or wrong

`str(error)` is a sentence.
"""

from __future__ import annotations


class LinkError(Exception):
    """Something did not work this time; `str(error)` is a sentence."""


class SettingsError(LinkError):
    """A setting is missing or wrong."""

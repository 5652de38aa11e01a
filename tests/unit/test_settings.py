"""Settings from the environment; each wrong one is named."""

from __future__ import annotations

from dataclasses import fields

import pytest

from chalicelib.services.control import rules_of
from chalicelib.settings import Settings, SettingsError

LEAST = {"STACK_NAME": "s", "TABLE_NAME": "t", "EDGE_URL": "https://edge:8443/"}


def test_defaults_and_addresses() -> None:
    settings = Settings.from_env(LEAST)
    assert settings == Settings("s", "t", "https://edge:8443")
    assert settings.ws_url == "wss://edge:8443/ws"
    assert settings.require_ticket
    assert (settings.idle_minutes, settings.session_max_minutes, settings.hard_max_minutes) == (10, 480, 720)


def test_values_are_read() -> None:
    given = {"IDLE_MINUTES": "2.5", "NIGHT": "22:00-06:00 UTC", "REQUIRE_TICKET": "False", "AWS_REGION": "x"}
    settings = Settings.from_env(LEAST | given)
    assert (settings.idle_minutes, settings.night, settings.require_ticket) == (2.5, "22:00-06:00 UTC", False)
    assert settings.region == "x"


@pytest.mark.parametrize("missing", LEAST)
def test_a_missing_one_is_named(missing: str) -> None:
    with pytest.raises(SettingsError, match=missing):
        Settings.from_env({name: value for name, value in LEAST.items() if name != missing})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IDLE_MINUTES", "ten"),
        ("IDLE_MINUTES", "-1"),
        ("IDLE_MINUTES", "nan"),
        ("HARD_MAX_MINUTES", "0"),
        ("REQUIRE_TICKET", "maybe"),
        ("NIGHT", "all"),
        ("EDGE_URL", "edge"),
    ],
)
def test_a_wrong_one_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_env(LEAST | {name: value})


def test_each_field_says_what_it_does() -> None:
    for one in fields(Settings):
        assert one.metadata["variable"].isupper()
        assert one.metadata["doc"].endswith(".")
        others = {"monthly_budget": "dollars", "sessions_per_token": "sessions", "canary_seconds": "seconds"}
        unit = "minutes" if one.name.endswith("_minutes") else others.get(one.name, "")
        assert one.metadata["unit"] == unit


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "1e3"])
def test_a_count_is_a_whole_number(value: str) -> None:
    assert Settings.from_env(LEAST | {"SESSIONS_PER_TOKEN": "3"}).sessions_per_token == 3
    with pytest.raises(SettingsError, match="SESSIONS_PER_TOKEN must be a whole number of 1 or more"):
        Settings.from_env(LEAST | {"SESSIONS_PER_TOKEN": value})


def test_zone_types_and_budget() -> None:
    told = {**LEAST, "TIME_ZONE": "Europe/Berlin", "GPU_TYPES": "g4dn.xlarge, g5.xlarge", "MONTHLY_BUDGET": "0"}
    rules = rules_of(Settings.from_env(told))
    assert rules.types == ("g4dn.xlarge", "g5.xlarge")
    assert rules.clock(1_800_000_000) == "09:00"
    with pytest.raises(SettingsError, match="TIME_ZONE"):
        Settings.from_env({**told, "TIME_ZONE": "Berlin"})
    with pytest.raises(SettingsError, match="MONTHLY_BUDGET must be a positive number of dollars"):
        Settings.from_env({**told, "MONTHLY_BUDGET": "-1"})

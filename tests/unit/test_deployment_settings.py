"""The settings of a stack: what is refused, how a file and a stack are merged, and what the edge is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from whisperctl.cli import cli
from whisperctl.deployment.settings import Settings, edge_lines, from_stack, lines_of, merged
from whisperctl.errors import UsageError

OUTPUTS = {"ApiUrl": "https://abc.execute-api.eu-central-1.amazonaws.com/api", "EdgeUrl": "https://203.0.113.7"}


def settings(**values: str) -> Settings:
    return Settings("prod", "eu-central-1", dict(values))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"Night": "22-06"}, "--night"),
        ({"TimeZone": "Berlin/Europe"}, "--time-zone: 'Berlin/Europe' is not an IANA time zone"),
        ({"ZoneA": "us-east-1a"}, "--zone: 'us-east-1a' is not a zone of eu-central-1"),
        ({"ZoneA": "eu-central-1a", "ZoneB": "eu-central-1a"}, "must be another one"),
        ({"clients": "192.0.2.7 192.0.2.9/24"}, "--clients: '192.0.2.9/24' is no network"),
        ({"certificate": "none"}, "--certificate: 'none' is not one of domain, address, internal"),
        ({"certificate": "domain"}, "--certificate domain needs --domain"),
        ({"EdgeDomain": "no name"}, "--domain"),
        ({"IdleMinutes": "0"}, "--idle-minutes: 0 is not between 1 and 240"),
        ({"MonthlyBudget": "50"}, "--budget needs --email"),
        ({"StandbyGpu": "yes"}, "--standby: 'yes' is not one of true, false"),
        ({"VpcId": "vpc-12345678"}, "needs SubnetA and SubnetB"),
        ({"Nonsense": "1"}, "--set Nonsense: there is no setting Nonsense"),
    ],
)
def test_what_cannot_be_is_refused_with_the_option_that_said_it(values: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        settings(**values).check()
    assert words in refused.value.message


def test_the_file_keeps_everything_and_no_secret(tmp_path: Path) -> None:
    held = settings(Night="22:00-06:00 Europe/Berlin", clients="192.0.2.7/32")
    held.agreed = {"IdleMinutes": "10"}
    held.write(tmp_path / "f.json")
    assert Settings.read(tmp_path / "f.json") == held
    for text in ("", "[]", '{"stage": "prod"}'):
        (tmp_path / "f.json").write_text(text)
        with pytest.raises(UsageError, match="is not what `whisperctl init` writes"):
            Settings.read(tmp_path / "f.json")


def test_a_colleagues_change_stays_and_a_contradiction_is_named() -> None:
    held = settings(IdleMinutes="10", Night="")
    held.agreed = {"IdleMinutes": "10", "Night": ""}
    now = {"IdleMinutes": "10", "Night": "22:00-06:00 Europe/Berlin", "GpuImage": "ami-1"}
    assert merged(held, now) == now, "what this file did not change is the stack's"
    held.values["IdleMinutes"] = "5"
    assert merged(held, now)["IdleMinutes"] == "5"
    held.values["Night"] = "23:00-05:00 Europe/Berlin"
    with pytest.raises(UsageError, match="Night was changed in the stack too, to '22:00"):
        merged(held, now)


def test_a_file_before_the_first_up_wins() -> None:
    assert merged(settings(IdleMinutes="5"), {"GpuImage": "ami-1"}) == {"IdleMinutes": "5", "GpuImage": "ami-1"}


def test_the_edge_is_told_its_address_its_api_and_its_certificate_and_keeps_an_operators_lines() -> None:
    lines = lines_of(edge_lines(settings(), OUTPUTS, "EDGE_LOG_LEVEL=DEBUG\nEDGE_SITE=old\n"))
    assert lines == {
        "EDGE_SITE": "203.0.113.7",
        "EDGE_ORIGINS": "https://203.0.113.7",
        "EDGE_API": "https://abc.execute-api.eu-central-1.amazonaws.com",
        "EDGE_API_STAGE": "/api",
        "EDGE_TLS": "tls_acme",
        "EDGE_ACME_OPTIONS": "profile shortlived",
        "EDGE_STREAM_CLOSE_DELAY": "12h",
        "EDGE_OPEN_STREAMS": "off",
        "EDGE_LOG_LEVEL": "DEBUG",
    }
    named = {**OUTPUTS, "EdgeUrl": "https://speech.example.org"}
    lines = lines_of(edge_lines(settings(EdgeDomain="speech.example.org", clients="192.0.2.7/32"), named))
    assert "EDGE_ACME_OPTIONS" not in lines
    assert (lines["EDGE_SITE"], lines["EDGE_CLIENTS"]) == ("speech.example.org", "192.0.2.7/32")
    internal = lines_of(edge_lines(settings(certificate="internal"), OUTPUTS))
    assert (internal["EDGE_TLS"], internal.get("EDGE_ACME_OPTIONS")) == ("tls_internal", None)


def test_every_line_for_the_edge_is_a_setting_of_its_caddyfile() -> None:
    caddyfile = (Path(__file__).resolve().parents[2] / "edge_bootstrap" / "Caddyfile").read_text()
    for name in lines_of(edge_lines(settings(NotifyEmail="a@example.org", clients="192.0.2.7/32"), OUTPUTS)):
        assert name in caddyfile, name


def test_a_stack_gives_its_settings_back() -> None:
    mine = settings(certificate="address", clients="192.0.2.7/32", IdleMinutes="5", model="small.en", profile="cuda")
    mine.values["python"] = "3.12"
    edge = edge_lines(mine, OUTPUTS)
    theirs = from_stack("prod", "eu-central-1", {"IdleMinutes": "5"}, edge, {"model": "small.en", "profile": "cuda"})
    assert theirs.values == mine.values
    assert theirs.agreed == {"IdleMinutes": "5"}


def test_init_without_questions(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    run = CliRunner().invoke
    told = run(cli, ["init", "--yes", "--file", str(path)], env={"AWS_REGION": "", "AWS_DEFAULT_REGION": ""})
    assert told.exit_code == 2
    assert "--region is missing" in told.output
    arguments = ["init", "--yes", "--file", str(path), "--region", "eu-central-1", "--idle-minutes", "5"]
    told = run(cli, [*arguments, "--set", "LogRetentionDays=90", "--json"])
    assert told.exit_code == 0, told.output
    held = json.loads(path.read_text())
    assert held["settings"] == {"IdleMinutes": "5", "LogRetentionDays": "90"}
    again = run(cli, ["init", "--yes", "--file", str(path), "--night", "22:00-06:00 Europe/Berlin"])
    assert again.exit_code == 0, again.output
    assert json.loads(path.read_text())["settings"]["IdleMinutes"] == "5"
    for wrong in (["--set", "Nonsense=1"], ["--night", "noon"], ["--stage", "other"]):
        told = run(cli, ["init", "--yes", "--file", str(path), *wrong])
        assert told.exit_code == 2, wrong
        assert len(told.stderr.splitlines()) == 1


def test_init_lists_every_parameter_of_the_template() -> None:
    from whisperctl.deployment.settings import template_parameters

    listed = json.loads(CliRunner().invoke(cli, ["init", "--list", "--json"]).stdout)
    assert {one["name"] for one in listed} >= set(template_parameters())
    assert all(one["meaning"] for one in listed)


def test_a_colleagues_file_has_the_python_that_the_release_is_for() -> None:
    names = ("click-8-py3-none-any.whl", "numpy-2-cp311-cp311-manylinux_2_27_x86_64.whl")
    wheels = [{"path": f"wheels/{one}"} for one in names]
    manifest = {"profile": "cpu", "model": "tiny.en", "files": wheels}
    assert from_stack("prod", "eu-central-1", {}, "", manifest).get("python") == "3.11"
    assert from_stack("prod", "eu-central-1", {}, "", {"files": wheels[:1]}).get("python") == "3.12"
    for bad in ("three", "2.7", "3"):
        with pytest.raises(UsageError, match=r"--python: '.*' is not a version of Python such as 3.12"):
            Settings("prod", "eu-central-1", {"python": bad}).check()

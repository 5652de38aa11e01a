"""What a probe says of the layers looked at, and how words, certificates and upstreams are judged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import probes
from chalicelib.domain.probes import (
    Layer,
    LayerName,
    Verdict,
    conclude,
    judge_certificate,
    judge_upstreams,
    judge_words,
)

ORDER = list(LayerName)
SAID = "The bridge over the river was closed for the winter."


def layers(*verdicts: Verdict) -> list[Layer]:
    return [
        probes.failed(name, "it is broken") if verdict is Verdict.FAILED else Layer(name, verdict, "seen")
        for name, verdict in zip(ORDER, verdicts, strict=False)
    ]


def test_every_layer_has_a_remedy() -> None:
    assert set(probes.REMEDIES) == set(LayerName)
    assert all(text.endswith(".") for text in probes.REMEDIES.values())


def test_green_needs_the_canarys_words() -> None:
    everything = conclude(layers(*[Verdict.OK] * len(ORDER)))
    assert everything.ok
    assert everything.cause is None
    silent = conclude(layers(*[Verdict.OK] * (len(ORDER) - 1)))
    assert not silent.ok
    assert silent.layers[-1].verdict is Verdict.NOT_REACHED


def test_asleep_is_no_failure_when_the_rest_is_well() -> None:
    ok, asleep = Verdict.OK, Verdict.ASLEEP
    probe = conclude(layers(ok, asleep, ok, asleep, ok, ok, asleep, asleep, asleep, asleep))
    assert probe.ok
    assert probe.asleep
    assert not conclude(layers(ok, asleep, ok, Verdict.FAILED)).ok


@given(st.integers(0, len(ORDER) - 1))
def test_the_first_failure_is_the_cause_and_nothing_behind_it_is_blamed(at: int) -> None:
    probe = conclude(layers(*[Verdict.OK] * at, Verdict.FAILED))
    assert not probe.ok
    assert probe.cause is ORDER[at]
    assert [layer.name for layer in probe.layers] == ORDER
    assert all(layer.verdict is Verdict.NOT_REACHED for layer in probe.layers[at + 1 :])
    assert probe.layers[at].remedy == probes.REMEDIES[ORDER[at]]


@given(st.lists(st.sampled_from(list(Verdict)), max_size=len(ORDER)))
def test_it_is_never_green_without_words_or_sleep(verdicts: list[Verdict]) -> None:
    try:
        probe = conclude(layers(*verdicts))
    except ValueError:
        return
    if probe.ok:
        assert Verdict.FAILED not in verdicts
        assert probe.layers[-1].verdict is Verdict.OK or (Verdict.ASLEEP in verdicts and len(verdicts) == len(ORDER))


def test_looking_behind_a_failure_or_out_of_order_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="behind"):
        conclude(layers(Verdict.FAILED, Verdict.OK))
    with pytest.raises(ValueError, match="order"):
        conclude(layers(Verdict.OK, Verdict.OK)[::-1])


@pytest.mark.parametrize(
    ("heard", "good"),
    [
        (SAID, True),
        ("the bridge over the river was close for the winter", True),
        ("The bridge, over the river, was closed; for winter.", True),
        ("", False),
        ("Thank you.", False),
        ("the river bridge was over winter", False),
        (" ".join([SAID] * 3), False),
    ],
)
def test_the_words_are_judged_in_their_order(heard: str, good: bool) -> None:
    assert judge_words(SAID, heard)[0] is good


def test_a_canary_that_says_nothing_proves_nothing() -> None:
    with pytest.raises(ValueError, match="says nothing"):
        judge_words("...", "")


@pytest.mark.parametrize(
    ("days", "good", "words"),
    [
        (60, True, "60 days left"),
        (0.4, True, "10 hours left"),
        (0.05, False, "72 minutes left"),
        (-3, False, "expired 3 days ago"),
        (None, False, "no certificate"),
    ],
)
def test_certificates(days: float | None, good: bool, words: str) -> None:
    verdict, detail = judge_certificate(days)
    assert verdict is good
    assert words in detail


def test_upstreams_are_the_ready_hosts_and_no_others() -> None:
    assert judge_upstreams(["10.0.0.2", "10.0.0.1"], ["10.0.0.1", "10.0.0.2"])[0]
    for held, ready in ([], ["a"]), (["b"], ["a"]), (["a", "b"], ["a"]), (["a"], ["a", "b"]), ([], []):
        good, words = judge_upstreams(held, ready)
        assert not good
        assert "ready: " in words

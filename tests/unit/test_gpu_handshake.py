from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu_bootstrap import closing
from gpu_bootstrap.errors import HandshakeError
from gpu_bootstrap.handshake import Handshake, Served, fit, parse


def count(text: str) -> int:
    """A token a word, as near as it matters here."""
    return len(text.split())


ENGLISH = Served("tiny.en", ["en"], count)
MANY = Served("base", ["en", "de", "fr"], count)


def shake(served: Served = ENGLISH, **fields: Any) -> Handshake:
    return fit(parse(json.dumps({"uid": "u", **fields})), served)


def test_a_uid_is_enough() -> None:
    assert parse(json.dumps({"uid": "u"})) == Handshake(uid="u")
    assert shake() == Handshake(uid="u", model="tiny.en", language="en")
    assert shake(MANY) == Handshake(uid="u", model="base")


def test_voice_detection_is_on_unless_the_client_says_otherwise() -> None:
    assert shake().use_vad
    assert shake(use_vad=None).use_vad
    assert not shake(use_vad=False).use_vad


def test_what_an_earlier_connection_was_done_with() -> None:
    assert shake(known_s=1).known_s == 1.0
    with pytest.raises(HandshakeError, match="known_s must be a number from 0 to 10"):
        shake(known_s=11)
    with pytest.raises(HandshakeError, match="known_s must be a number from 0 to 10"):
        shake(known_s="all")


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("base", "base"),
        ("Systran/faster-whisper-base", "base"),
        ("Systran/faster-whisper-tiny.en", "tiny.en"),
        ("mobiuslabsgmbh/faster-whisper-large-v3-turbo", "large-v3-turbo"),
        ("turbo", "large-v3-turbo"),
        ("someone/else", "someone/else"),
        ("", None),
        (None, None),
    ],
)
def test_models_by_their_names(asked: str | None, name: str | None) -> None:
    assert parse(json.dumps({"uid": "u", "model": asked})).model == name


def test_a_model_that_serves_in_place_of_another_says_so() -> None:
    wishes = shake(Served("base", ["en", "de"], count, "this host does not have the model 'large-v3'"), language="de")
    assert (wishes.model, wishes.language) == ("base", "de")
    assert wishes.warnings == ("this host does not have the model 'large-v3'; base serves instead",)


def test_an_english_model_warns_of_other_languages_and_translation() -> None:
    wishes = shake(language="de", task="translate")
    assert (wishes.language, wishes.task, len(wishes.warnings)) == ("en", "transcribe", 2)
    assert shake(language="en").warnings == ()


def test_a_model_of_many_languages_translates() -> None:
    wishes = shake(MANY, language="de", task="translate")
    assert (wishes.language, wishes.task, wishes.warnings) == ("de", "translate", ())


def test_a_language_nobody_knows() -> None:
    with pytest.raises(HandshakeError, match="language 'xx' is none that base knows"):
        shake(MANY, language="xx")


@pytest.mark.parametrize(
    ("asked", "language"), [("DE", "de"), ("de-AT", "de"), ("fr_CA", "fr"), ("auto", None), ("", None), (" ", None)]
)
def test_languages_by_their_spellings(asked: str, language: str | None) -> None:
    assert shake(MANY, language=asked).language == language


def test_a_prompt_of_more_than_whisper_can_take_is_cut() -> None:
    wishes = shake(initial_prompt="said " * 180 + "last", hotwords="First " + "then " * 150)
    assert [len(warning) > 10 for warning in wishes.warnings] == [True, True]
    assert wishes.hotwords is not None
    assert wishes.hotwords.startswith("First then")
    assert wishes.initial_prompt is not None
    assert wishes.initial_prompt.endswith("said last")
    assert count(wishes.hotwords) <= 100
    assert count(wishes.hotwords) + count(wishes.initial_prompt) <= 200


def test_a_prompt_is_one_line() -> None:
    wishes = shake(initial_prompt=" The\tbridge,\n\nthe river. ", hotwords=" \n ")
    assert (wishes.initial_prompt, wishes.hotwords, wishes.warnings) == ("The bridge, the river.", None, ())


def test_voice_parameters_within_their_limits() -> None:
    assert shake(vad_parameters={"threshold": 0.4, "speech_pad_ms": None}).vad_parameters == {"threshold": 0.4}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"uid": 5}, "uid must be text"),
        ({"uid": ""}, "lacks uid"),
        ({"uid": "x" * 201}, "uid is longer than 200"),
        ({"vad_parameters": {"bogus": 1}}, "vad_parameters has no 'bogus'"),
        ({"vad_parameters": {"threshold": True}}, "vad_parameters.threshold must be a number from"),
        ({"vad_parameters": {"threshold": 7}}, "vad_parameters.threshold must be a number from"),
        ({"vad_parameters": []}, "vad_parameters must be an object"),
        ({"initial_prompt": 5}, "initial_prompt must be text"),
        ({"initial_prompt": "x" * 1001}, "initial_prompt is longer"),
        ({"hotwords": ["a"]}, "hotwords must be text"),
        ({"hotwords": "a\0b"}, "hotwords holds a control character"),
        ({"initial_prompt": "bell \x07"}, "initial_prompt holds a control character"),
        ({"hotwords": "a<|endoftext|>"}, "hotwords holds '<|'"),
        ({"task": "sing"}, "task must be one of transcribe, translate"),
        ({"task": {}}, "task must be one of"),
        ({"audio_format": "mp3"}, "audio_format must be one of float32, int16, uint8"),
        ({"send_last_n_segments": 1.5}, "send_last_n_segments must be a whole number from 1 to 500"),
        ({"send_last_n_segments": 0}, "send_last_n_segments must be"),
        ({"send_last_n_segments": True}, "send_last_n_segments must be"),
        ({"no_speech_thresh": float("nan")}, "no_speech_thresh must be a number from 0 to 1"),
        ({"use_vad": 1}, "use_vad must be true or false"),
    ],
)
def test_a_wrong_type_is_named(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HandshakeError) as error:
        parse(json.dumps({"uid": "u"} | fields))
    assert sentence in str(error.value)


@pytest.mark.parametrize("message", [b"{}", "", "nope", "[]", "5", "[" * 100_000, '"' + "x" * 70_000 + '"'])
def test_no_handshake_at_all(message: str | bytes) -> None:
    with pytest.raises(HandshakeError):
        parse(message)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


# How fast examples are made is the machine's affair, not the handshake's.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from([*Handshake.__dataclass_fields__, "bogus"]), json_values))
def test_whatever_comes_is_served_or_refused_with_a_reason_that_fits(fields: dict[str, Any]) -> None:
    reason = None
    try:
        wishes = fit(parse(json.dumps({"uid": "u"} | fields)), MANY)
    except HandshakeError as error:
        reason = closing.Ending(closing.PROTOCOL, str(error)).fitting_reason()
    if reason is None:
        assert wishes.model == MANY.model
        assert wishes.language is None or wishes.language in MANY.languages
    else:
        assert 0 < len(reason.encode()) <= 123

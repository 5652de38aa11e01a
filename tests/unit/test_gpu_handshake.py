from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu_bootstrap import closing
from gpu_bootstrap.errors import HandshakeError
from gpu_bootstrap.handshake import Handshake, HostModels, parse

ENGLISH = HostModels("tiny.en", ["tiny.en"], ["en"])
MANY = HostModels("base", ["base", "tiny.en"], ["en", "de", "fr"])


def shake(host: HostModels = ENGLISH, **fields: Any) -> Handshake:
    return parse(json.dumps({"uid": "u", **fields}), host)


def test_a_uid_is_enough() -> None:
    assert shake() == Handshake(uid="u", model="tiny.en")


def test_voice_detection_is_on_unless_the_client_says_otherwise() -> None:
    assert shake().use_vad
    assert shake(use_vad=None).use_vad
    assert not shake(use_vad=False).use_vad


@pytest.mark.parametrize("model", ["base", "Systran/faster-whisper-base", None, ""])
def test_models_of_this_host_by_either_name(model: str | None) -> None:
    wishes = shake(MANY, model=model, language="de", task="translate")
    assert (wishes.model, wishes.language, wishes.task, wishes.warnings) == ("base", "de", "translate", ())


@pytest.mark.parametrize("model", ["large-v3", "Systran/faster-whisper-large-v3", "/etc/passwd", "someone/else"])
def test_another_model_is_served_by_the_loaded_one_with_a_warning(model: str) -> None:
    wishes = shake(MANY, model=model)
    assert wishes.model == "base"
    assert len(wishes.warnings) == 1
    assert "base serves instead" in wishes.warnings[0]


def test_an_english_model_warns_of_other_languages_and_translation() -> None:
    wishes = shake(language="de", task="translate")
    assert (wishes.language, wishes.task, len(wishes.warnings)) == ("en", "transcribe", 2)


def test_a_language_nobody_knows() -> None:
    with pytest.raises(HandshakeError, match="language 'xx' is not one"):
        shake(MANY, language="xx")


def test_a_language_in_capitals() -> None:
    assert shake(MANY, language="DE").language == "de"


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
        parse(json.dumps({"uid": "u"} | fields), ENGLISH)
    assert sentence in str(error.value)


@pytest.mark.parametrize("message", [b"{}", "", "nope", "[]", "5", "[" * 100_000, '"' + "x" * 70_000 + '"'])
def test_no_handshake_at_all(message: str | bytes) -> None:
    with pytest.raises(HandshakeError):
        parse(message, ENGLISH)


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
        wishes = parse(json.dumps({"uid": "u"} | fields), MANY)
    except HandshakeError as error:
        reason = closing.Ending(closing.PROTOCOL, str(error)).fitting_reason()
    if reason is None:
        assert wishes.model in MANY.available
        assert wishes.language is None or wishes.language in MANY.languages
    else:
        assert 0 < len(reason.encode()) <= 123

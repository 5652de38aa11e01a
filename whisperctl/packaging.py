"""The control plane's package: the Lambda's archive and the stack's template, as AWS gets them.

`build` runs `chalice package` on a copy of what ships, with `.chalice/resources.yaml` and the SSM documents merged
in, and writes two files: `template.json` (SAM; every function's CodeUri is `./deployment.zip`) and `deployment.zip`,
which holds the same bytes for the same sources on any machine with the same zlib.

    python -m whisperctl.packaging [--stage prod] OUT
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisperctl.documents import DIRECTORY as DOCUMENTS
from whisperctl.errors import CtlError, UsageError

ROOT = Path(__file__).resolve().parents[1]
SHIPS = ("app.py", "requirements.txt", "chalicelib", ".chalice")
STAGES = ("dev", "prod")
ARCHIVE, TEMPLATE = "deployment.zip", "template.json"
MOST_BYTES = 1_500_000
"""Of the archive: what Lambda loads at each cold start."""
NOT_BUILT = "Could not install"
"""What chalice prints, and exits with 0, when it leaves out a dependency that has no wheel for Lambda."""
UNUSED = re.compile(
    r"aws_lambda_powertools/(event_handler/|utilities/(?!__init__\.py|jmespath_utils/))"
    r"|aws_lambda_powertools/metrics/provider/datadog/"
    r"|[^/]+\.data/|.*/__pycache__/|[^/]+\.dist-info/(?!licenses/|LICENSE)"
)
"""Left out of the archive: parts of Powertools that nobody imports (four fifths of it), and what is pip's own."""
NOT_COMPILED = re.compile(r"(h11|wsproto|tzdata|chalicelib/net)/")
"""Without bytecode in the archive: no cold start imports them."""
RUNTIME = (3, 11)
"""The Lambdas' Python, as `.chalice/resources.yaml` names it."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_LONGEST_S = 300


class PackagingError(CtlError):
    """The package could not be made as it must be."""


@dataclass(frozen=True, slots=True)
class Package:
    """What `build` wrote. `sha256` is the archive's content's: names and bytes, however they are compressed."""

    template: Path
    archive: Path
    sha256: str


def build(out: Path, stage: str = "prod", root: Path = ROOT) -> Package:
    """Make the package of the checkout at `root` in the folder `out`; PackagingError says what is wrong with it."""
    if stage not in STAGES:
        raise UsageError(f"there is no stage {stage}, only {' and '.join(STAGES)}")
    with tempfile.TemporaryDirectory(prefix="whisperctl-package-") as scratch:
        project = Path(scratch) / "project"
        _copy(root, project)
        made = _chalice(project, stage)
        files = _files(made / ARCHIVE)
        files |= _compiled(files)
        template = json.loads((made / "sam.json").read_text())
    for function in functions(template).values():
        function["Properties"]["CodeUri"] = f"./{ARCHIVE}"
    out.mkdir(parents=True, exist_ok=True)
    written = Package(out / TEMPLATE, out / ARCHIVE, _digest(files))
    _write_archive(written.archive, files)
    written.template.write_text(json.dumps(template, indent=1, sort_keys=True) + "\n")
    size = written.archive.stat().st_size
    if size >= MOST_BYTES:
        raise PackagingError(f"the Lambdas' archive has {size} bytes, {MOST_BYTES} are allowed: what was added?")
    return written


def functions(template: dict[str, Any]) -> dict[str, Any]:
    """The template's Lambda functions by their logical name."""
    return {k: v for k, v in template["Resources"].items() if v.get("Type") == "AWS::Serverless::Function"}


def resources(root: Path = ROOT) -> dict[str, Any]:
    """What is merged into Chalice's template: `.chalice/resources.yaml` in long form, and the SSM documents."""
    from chalice.package import YAMLTemplateSerializer

    path = root / ".chalice" / "resources.yaml"
    template: dict[str, Any] = YAMLTemplateSerializer().load_template(path.read_text(), path.name)
    for source in sorted((root / DOCUMENTS.relative_to(ROOT)).glob("*.json")):
        template["Resources"][_logical(source.stem)] = {
            "Type": "AWS::SSM::Document",
            "Properties": {
                "Name": {"Fn::Sub": f"${{AWS::StackName}}-{source.stem}"},
                "DocumentType": "Command",
                "DocumentFormat": "JSON",
                "TargetType": "/AWS::EC2::Instance",
                # Its name is fixed, so a changed document cannot be replaced by another.
                "UpdateMethod": "NewVersion",
                "Content": json.loads(source.read_text()),
                "Tags": [{"Key": "whisperlive-edge:stack", "Value": {"Ref": "AWS::StackName"}}],
            },
        }
    return template


def _logical(stem: str) -> str:
    return "".join(word.capitalize() for word in stem.split("-")) + "Document"


def _copy(root: Path, project: Path) -> None:
    leave = shutil.ignore_patterns("deployments", "deployed", "__pycache__")
    project.mkdir()
    for name in SHIPS:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=leave)
        else:
            shutil.copy(source, project)


def _chalice(project: Path, stage: str) -> Path:
    """Run chalice; the folder it filled."""
    merge = project / "resources.json"
    merge.write_text(json.dumps(resources(project)))
    program = Path(sys.executable).with_name("chalice")
    # The region is asked for and goes nowhere: the template has none.
    environment = {"AWS_DEFAULT_REGION": "us-east-1"} | os.environ
    try:
        run = subprocess.run(
            [str(program), "package", "--stage", stage, "--merge-template", str(merge), "out"],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackagingError(f"chalice did not package the control plane: {error}") from error
    said = run.stdout + run.stderr
    if run.returncode != 0:
        raise PackagingError(f"chalice did not package the control plane: {said.strip()[-2000:]}")
    if NOT_BUILT in said:
        what = " ".join(said[said.index(NOT_BUILT) :].split())
        raise PackagingError(f"a dependency has no wheel that Lambda can run and was left out: {what[:500]}")
    return project / "out"


def _files(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as zipped:
        names = [one.filename for one in zipped.infolist() if not one.is_dir()]
        return {name: zipped.read(name) for name in sorted(names) if not UNUSED.match(name)}


def _compiled(files: dict[str, bytes]) -> dict[str, bytes]:
    """The bytecode of every module, where this Python is the Lambdas'.

    A Lambda cannot write bytecode down, so each cold start would compile all sources anew. The files are bound to
    no time (PEP 552, unchecked): the same sources give the same bytes.
    """
    if sys.version_info[:2] != RUNTIME:
        return {}
    found = {}
    for name, source in files.items():
        folder, _, module = name.rpartition("/")
        if module.endswith(".py") and not NOT_COMPILED.match(name):
            code = importlib._bootstrap_external._code_to_hash_pyc(  # type: ignore[attr-defined]  # as py_compile does
                compile(source, f"/var/task/{name}", "exec", dont_inherit=True),
                importlib.util.source_hash(source),
                False,
            )
            tagged = f"__pycache__/{module.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc"
            found[f"{folder}/{tagged}" if folder else tagged] = bytes(code)
    return found


def _digest(files: dict[str, bytes]) -> str:
    listed = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
    return hashlib.sha256(listed.encode()).hexdigest()


def _write_archive(path: Path, files: dict[str, bytes]) -> None:
    """The same files give the same bytes: sorted, one time, one mode, nothing of this machine."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
            zipped.writestr(entry, content)


def main(arguments: list[str] | None = None) -> int:
    """The command of the module's docstring; exit code 1 when the package cannot be made."""
    parser = argparse.ArgumentParser(prog="python -m whisperctl.packaging", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder for template.json and deployment.zip")
    parser.add_argument("--stage", choices=STAGES, default="prod")
    given = parser.parse_args(arguments)
    try:
        made = build(given.out, given.stage)
    except CtlError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{made.archive}: {made.archive.stat().st_size} bytes, content {made.sha256}\n{made.template}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

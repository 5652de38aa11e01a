"""The direction of imports: app → wiring → services, aws, net → ports → domain → errors."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A layer may import those named here and itself; a layer that is not named here fails the test.
MAY_IMPORT = {
    "app": {"wiring", "web", "telemetry", "errors", "settings", "domain", "services"},
    "wiring": {"services", "aws", "net", "ports", "domain", "settings", "telemetry", "errors"},
    "web": {"services", "domain", "settings", "telemetry", "errors", "ports"},
    "services": {"ports", "domain", "settings", "telemetry", "errors"},
    "aws": {"ports", "domain", "settings", "telemetry", "errors"},
    "net": {"ports", "domain", "settings", "telemetry", "errors"},
    "ports": {"domain", "errors"},
    "telemetry": {"settings", "errors"},
    "settings": {"domain", "errors"},
    "domain": {"errors"},
    "errors": set[str](),
}
AWS_CLIENTS = {"boto3", "botocore"}
MAY_IMPORT_AWS_CLIENTS = {"aws"}
# Effects that have no place among pure decisions: no I/O, no clock, no randomness of its own.
IMPURE = {"boto3", "botocore", "os", "socket", "subprocess", "time", "threading", "random", "urllib"}


def layer_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == "chalicelib" and len(parts) > 1 else parts[0]


def imports_of(path: Path) -> set[str]:
    """Dotted names of every module imported anywhere in the file, functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = list(path.relative_to(ROOT).with_suffix("").parts[: -node.level]) if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            # `from chalicelib import errors` imports a module; `from chalicelib.errors import X` a name.
            found |= {f"{base}.{alias.name}" for alias in node.names} if base == "chalicelib" else {base}
    return found


def violations(path: Path) -> list[str]:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    layer = layer_of(name)
    wrong = []
    for module in sorted(imports_of(path)):
        root = module.split(".")[0]
        if root == "chalicelib" and module != "chalicelib":
            target = layer_of(module)
            if target != layer and target not in MAY_IMPORT[layer]:
                wrong.append(f"{name} imports {module}")
        if root in AWS_CLIENTS and layer not in MAY_IMPORT_AWS_CLIENTS:
            wrong.append(f"{name} imports {module}: only chalicelib/aws may")
        if layer == "domain" and root in IMPURE:
            wrong.append(f"{name} imports {module}: the domain is pure")
        if root in {"whisperctl", "gpu_bootstrap", "tests", "bench"}:
            wrong.append(f"{name} imports {module}: it is not in the Lambda package")
    return wrong


SOURCES = [ROOT / "app.py", *sorted((ROOT / "chalicelib").rglob("*.py"))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    if path.parent == ROOT / "chalicelib" and path.name == "__init__.py":
        assert imports_of(path) == set()
        return
    assert violations(path) == []


def test_hosts_know_nothing_of_the_control_plane() -> None:
    foreign = {"chalicelib", "whisperctl", "boto3", "botocore", "app"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sorted((ROOT / "gpu_bootstrap").rglob("*.py"))
        for module in imports_of(path)
        if module.split(".")[0] in foreign
    ]
    assert wrong == []


def test_a_wrong_import_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "chalicelib" / "domain" / "bad.py"
    bad.parent.mkdir(parents=True)
    bad.write_text("import time\nfrom chalicelib.aws import store\nfrom chalicelib import services\n")
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    assert violations(bad) == [
        "chalicelib.domain.bad imports chalicelib.aws",
        "chalicelib.domain.bad imports chalicelib.services",
        "chalicelib.domain.bad imports time: the domain is pure",
    ]

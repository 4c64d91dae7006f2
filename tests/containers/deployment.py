"""What the Dockerfile, the compose file and the Kubernetes manifests say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
KUBERNETES = sorted((ROOT / "deploy/kubernetes").rglob("*.yaml"))


def dockerfile_environment() -> dict[str, str]:
    """The ENV of the final image."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    found: dict[str, str] = {}
    for line in re.findall(r"^ENV (.*)$", text, re.MULTILINE):
        found |= dict(word.partition("=")[::2] for word in shlex.split(line))
    return found


def yaml_documents(path: Path) -> list[dict[str, Any]]:
    """All documents of a YAML file."""
    yaml = pytest.importorskip("yaml", reason="needs PyYAML: pip install 'zitcache[test]'")
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def compose_service(name: str) -> dict[str, Any]:
    """A service of ``compose.yaml``, with what it takes over from the others."""
    (document,) = yaml_documents(ROOT / "compose.yaml")
    service: dict[str, Any] = document["services"][name]
    return service


def tool(name: str, package: str) -> str:
    """The path of a linter that a package of ``[test]`` brings."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: pip install {package}")
    return os.path.abspath(found)

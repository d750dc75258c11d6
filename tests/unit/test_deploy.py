"""What `deploy/` ships and cannot be started here is at least valid, and hardened as it says."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gateway.cli import main
from gateway.cli.config_file import ExecutorModels
from gateway.config.load import load
from gateway.config.model import Spool, Store
from gateway.config.store_url import sqlite_file
from gateway.executors.guarded import PROBE_S
from gateway.listeners import parse_address
from tests import needs
from tests.gateways import threaded

CHECKOUT = Path(__file__).parents[2]
DEPLOY = CHECKOUT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
MANIFESTS = [
    pytest.param(document, id=f"{file.stem}-{document['kind']}")
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
]
PODS = [one for one in MANIFESTS if one.values[0]["kind"] in ("Deployment", "DaemonSet", "Pod")]
COMPOSE = yaml.safe_load((DEPLOY / "container/compose.yaml").read_text())
CACHE = "/var/cache/workspace-gateway"  # where the image has archives kept
STATE = "/var/lib/workspace-gateway"  # and its store
VOLUMES = {"cache": CACHE, "state": STATE}
DOCKERFILE = (DEPLOY / "container/Dockerfile").read_text()


def pod_spec(document: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = document["spec"]
    return spec if document["kind"] == "Pod" else spec["template"]["spec"]


def containers(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those that run this project."""
    for container in pod_spec(document)["containers"]:
        if container["image"].startswith("workspace-gateway:"):
            yield container


@pytest.mark.parametrize("version", ["1.29", "1.37"])
@pytest.mark.parametrize("document", MANIFESTS)
def test_a_manifest_is_what_kubernetes_expects(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_a_wrong_manifest_would_be_found() -> None:
    """Or the test above would prove nothing."""
    document = json.loads(json.dumps(MANIFESTS[1].values[0]))
    document["spec"]["template"]["spec"]["containers"][0]["prots"] = []

    with pytest.raises(kubernetes_validate.ValidationError, match="prots"):
        kubernetes_validate.validate(document, "1.37", strict=True)


@pytest.mark.parametrize("document", PODS)
def test_a_pod_is_hardened_and_probed(document: dict[str, Any]) -> None:
    pod = pod_spec(document)
    ours = list(containers(document))

    assert len(ours) == 1
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in ours:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert "memory" in container["resources"]["limits"]
        writable = [m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")]
        assert writable == ["/tmp", CACHE]


@pytest.mark.parametrize("document", PODS)
def test_no_container_is_in_roots_group(document: dict[str, Any]) -> None:
    """As it would be with a user for whom neither the pod nor the image names a group."""
    pod = pod_spec(document)
    for container in pod["containers"]:
        assert (pod["securityContext"] | container["securityContext"])["runAsGroup"] > 0


def test_a_sidecar_may_read_its_token_and_not_everybody_may() -> None:
    """A mounted secret belongs to root, and to the group `fsGroup`: without it, to root's."""
    sidecars = [one for (one,) in (p.values for p in PODS) if one["kind"] != "Deployment"]
    for pod in map(pod_spec, sidecars):
        (token,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
        assert token["defaultMode"] == 0o440
        assert pod["securityContext"]["fsGroup"] == 65532

    assert len(sidecars) == 2


@pytest.mark.parametrize("document", MANIFESTS)
def test_what_refers_to_pods_finds_some(document: dict[str, Any]) -> None:
    """A selector with a slip of the pen selects nothing, silently."""
    selector = document.get("spec", {}).get("podSelector") or document.get("spec", {}).get(
        "selector", {}
    )
    wanted = selector.get("matchLabels", selector)
    labels = []
    for (pod,) in (one.values for one in PODS):
        template = pod if pod["kind"] == "Pod" else pod["spec"]["template"]
        labels.append(template["metadata"]["labels"])

    assert not wanted or any(wanted.items() <= one.items() for one in labels)


def config_map() -> str:
    documents = [one.values[0] for one in MANIFESTS]
    (text,) = [d["data"]["gateway.yaml"] for d in documents if d["kind"] == "ConfigMap"]
    return str(text)


@pytest.mark.parametrize("where", ["container", "kubernetes"])
def test_the_config_that_is_shipped_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("WEB_KEY_SHA256", "0" * 64)
    text = (DEPLOY / "container/gateway.yaml").read_text()
    file = tmp_path / "gateway.yaml"
    file.write_text(text if where == "container" else config_map())

    config = load(str(file), ExecutorModels())

    assert config.server.host == "0.0.0.0"  # or no container could be reached
    assert config.server.port == 8080
    assert config.server.trusted_proxies


def test_a_pod_is_given_the_time_that_its_config_takes_to_drain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_KEY_SHA256", "0" * 64)
    file = tmp_path / "gateway.yaml"
    file.write_text(config_map())
    server = load(str(file), ExecutorModels()).server
    (deployment,) = [p.values[0] for p in PODS if p.values[0]["kind"] == "Deployment"]

    assert pod_spec(deployment)["terminationGracePeriodSeconds"] > server.grace + server.drain


@pytest.mark.parametrize("document", PODS)
def test_the_spool_fits_into_its_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: dict[str, Any]
) -> None:
    """A pod that fills a volume over its limit is evicted, with all the downloads it serves."""
    monkeypatch.setenv("WEB_KEY_SHA256", "0" * 64)
    file = tmp_path / "gateway.yaml"
    file.write_text(config_map())
    served = (
        load(str(file), ExecutorModels()).spool if document["kind"] == "Deployment" else Spool()
    )
    (cache,) = [v for v in pod_spec(document)["volumes"] if v["name"] == "cache"]

    limit = cache["emptyDir"]["sizeLimit"]

    assert limit.endswith("Gi")
    assert int(limit[:-2]) << 30 >= 1.1 * served.bytes


def test_the_image_has_archives_kept_in_its_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"XDG_CACHE_HOME=(\S+)", DOCKERFILE)
    assert found is not None
    monkeypatch.setenv("XDG_CACHE_HOME", found[1])

    assert Spool().directory == f"{CACHE}/spool"


def test_the_image_has_its_store_in_its_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"XDG_STATE_HOME=(\S+)", DOCKERFILE)
    assert found is not None
    monkeypatch.setenv("XDG_STATE_HOME", found[1])

    assert sqlite_file(Store().address) == f"{STATE}/gateway.db"


def test_the_unit_has_its_store_where_it_may_write() -> None:
    unit = (DEPLOY / "systemd/workspace-gateway.service").read_text()

    assert "\nStateDirectory=workspace-gateway\n" in unit
    assert "\nEnvironment=XDG_STATE_HOME=%S\n" in unit


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_has_archives_kept_where_it_may_write(
    monkeypatch: pytest.MonkeyPatch, unit: Path
) -> None:
    cache = re.search(r"(?m)^CacheDirectory=(\S+)$", unit.read_text())
    home = re.search(r"(?m)^Environment=XDG_CACHE_HOME=%C(\S*)$", unit.read_text())
    assert cache is not None
    assert home is not None
    monkeypatch.setenv("XDG_CACHE_HOME", f"/var/cache{home[1]}")

    assert Spool().directory.startswith(f"/var/cache/{cache[1]}/")


def verified(tmp_path: Path, unit: Path, text: str) -> subprocess.CompletedProcess[str]:
    """What systemd says of a unit whose program is one that is here."""
    copy = tmp_path / unit.name
    copy.write_text(text.replace("/opt/workspace-gateway/bin/workspace-gateway", sys.executable))
    return subprocess.run(
        [needs.program("systemd-analyze"), "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_nothing_wrong_with_a_unit(tmp_path: Path, unit: Path) -> None:
    result = verified(tmp_path, unit, unit.read_text())

    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("ProtectHome=yes", "ProtectHouse=yes"), ("Restart=always", "Restart=ever")],
)
def test_a_wrong_unit_would_be_found(tmp_path: Path, right: str, wrong: str) -> None:
    """Or the test above would prove nothing."""
    result = verified(tmp_path, UNITS[0], UNITS[0].read_text().replace(right, wrong))

    assert wrong.split("=")[1] in result.stderr or wrong.split("=")[0] in result.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_hardened(unit: Path) -> None:
    """On systemd's own scale from 0 to 10, where 10 is exposed."""
    result = subprocess.run(
        [
            *(needs.program("systemd-analyze"), "security", "--offline=true"),
            *("--threshold=20", "--no-pager", str(unit)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_leaves_openat2_to_the_gateway(unit: Path) -> None:
    """Which systemd cannot filter by its flags, and so denies under that setting."""
    assert "RestrictSUIDSGID=" not in unit.read_text()


def command_lines() -> Iterator[list[str]]:
    """What is started, wherever it is written down."""
    for unit in UNITS:
        found = re.search(r"(?m)^ExecStart=\S+ (.*)$", unit.read_text())
        assert found is not None
        yield shlex.split(found[1])
    for (document,) in (one.values for one in PODS):
        for container in containers(document):
            yield container["args"]
    for service in COMPOSE["services"].values():
        if "command" in service:
            yield service["command"]
    found = re.search(r"(?m)^CMD (\[.*\])$", DOCKERFILE)
    assert found is not None
    yield json.loads(found[1])


@pytest.mark.parametrize("line", list(command_lines()), ids=" ".join)
def test_what_is_started_is_a_command_that_exists(line: list[str]) -> None:
    context = main.make_context("workspace-gateway", list(line))
    command = main.get_command(context, line[0])
    assert command is not None

    parsed = command.make_context(line[0], line[1:], parent=context)

    if line[0] == "serve":
        assert parsed.params["file"] == "/etc/workspace-gateway/gateway.yaml"
    else:
        assert parse_address(parsed.params["listen"])


def test_the_image_is_not_root_and_copies_what_is_there() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    ignored = (DEPLOY / "container/Dockerfile.dockerignore").read_text().splitlines()
    (user,) = re.findall(r"(?m)^USER (\d+):\d+$", final)
    copied = re.findall(r"(?m)^COPY (?!--)(.+) \S+$", DOCKERFILE)

    assert int(user) > 0
    assert copied
    for name in " ".join(copied).split():
        assert (CHECKOUT / name).exists()
        assert f"!{name}" in ignored


@pytest.mark.parametrize(("path", "code"), [("/livez", 0), ("/nowhere", 1)])
def test_the_images_health_check_tells_a_gateway_that_lives(
    root: Path, path: str, code: int
) -> None:
    found = re.search(r"(?m)^HEALTHCHECK .* CMD (\[.*\])$", DOCKERFILE)
    assert found is not None
    _, *arguments = json.loads(found[1])
    with threaded(root) as gateway:
        here = [a.replace(":8080/livez", f":{gateway.port}{path}") for a in arguments]
        result = subprocess.run([sys.executable, *here], capture_output=True, timeout=30)

    assert result.returncode == code


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_of_compose_is_hardened(name: str) -> None:
    service = COMPOSE["services"][name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    writable = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
    expected = {"gateway": ["cache", "state"], "sidecar": ["cache"]}[name]
    assert writable == [f"{name}-{kind}:{VOLUMES[kind]}" for kind in expected]
    assert {f"{name}-{kind}" for kind in expected} <= set(COMPOSE["volumes"])
    context = DEPLOY / "container" / service["build"]["context"]
    assert (context / service["build"]["dockerfile"]).exists()


def test_an_executor_that_does_not_answer_takes_no_gateway_away() -> None:
    """Readiness waits for it, and whoever asks for readiness waits longer."""
    routing = yaml.safe_load((DEPLOY / "traefik/workspace-gateway.yaml").read_text())
    (service,) = routing["http"]["services"].values()
    check = service["loadBalancer"]["healthCheck"]
    (deployment,) = (one.values[0] for one in PODS if one.values[0]["kind"] == "Deployment")
    (container,) = containers(deployment)

    timeout, interval = (int(check[name].removesuffix("s")) for name in ("timeout", "interval"))
    assert PROBE_S < timeout < interval
    assert container["readinessProbe"]["timeoutSeconds"] > PROBE_S


def test_traefik_neither_rewrites_nor_buffers() -> None:
    """Its keys are those of Traefik 3.6's reference; the program itself is not in Debian."""
    install = yaml.safe_load((DEPLOY / "traefik/traefik.yaml").read_text())
    routing = yaml.safe_load((DEPLOY / "traefik/workspace-gateway.yaml").read_text())
    (entry,) = install["entryPoints"].values()
    (service,) = routing["http"]["services"].values()
    (router,) = routing["http"]["routers"].values()

    assert set(install) == {"entryPoints", "providers"}
    assert set(entry) == {"address", "http", "transport"}
    assert entry["http"]["sanitizePath"] is False
    assert set(entry["http"]["encodedCharacters"]) == {
        f"allowEncoded{name}"
        for name in (
            *("Slash", "BackSlash", "NullCharacter", "Semicolon"),
            *("Percent", "QuestionMark", "Hash"),
        )
    }
    assert all(entry["http"]["encodedCharacters"].values())
    assert install["providers"]["file"]["filename"].endswith("/workspace-gateway.yaml")
    assert set(routing["http"]) == {"routers", "services", "serversTransports"}
    assert router["service"] in routing["http"]["services"]
    assert set(router["entryPoints"]) <= set(install["entryPoints"])
    assert "middlewares" not in router
    balancer = service["loadBalancer"]
    assert balancer["serversTransport"] in routing["http"]["serversTransports"]
    assert balancer["responseForwarding"]["flushInterval"].startswith("-")
    assert all(t["disableHTTP2"] for t in routing["http"]["serversTransports"].values())


def test_the_page_about_deployments_names_every_file_of_theirs() -> None:
    text = (DEPLOY / "README.md").read_text()
    files = [p for p in DEPLOY.rglob("*") if p.is_file() and p.name != "README.md"]

    assert len(files) > 10
    for file in files:
        if file.suffix != ".dockerignore":
            assert os.path.relpath(file, DEPLOY) in text, file
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (DEPLOY / link).exists(), link
    assert "deploy/README.md" in (CHECKOUT / "README.md").read_text()

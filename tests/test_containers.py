"""What the images and the compose file promise, read from the files; `make compose-test` runs them for real."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from sources import ROOT

from service.processes import python

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text().replace("\\\n", " ").splitlines()


def position(pattern: str) -> int:
    """The first line of the Dockerfile that matches."""
    return next(number for number, line in enumerate(DOCKERFILE) if re.search(pattern, line))


def test_torch_then_the_other_dependencies_are_installed_before_any_code_is_copied() -> None:
    torch, others, code = position(r"^RUN .*torch\.txt"), position(r"^RUN .*runtime\.txt"), position(r"^COPY \. ")
    assert torch < others < code


def test_both_images_run_as_a_user_of_their_own() -> None:
    assert [line for line in DOCKERFILE if line.startswith("USER")] == ["USER moda"]
    assert position("^USER") < position("^FROM moda AS worker") < position("^FROM moda AS service")


@pytest.mark.parametrize("name", ["worker", "service"])
def test_an_image_says_how_healthy_it_is(name: str) -> None:
    lines = "\n".join(DOCKERFILE).split(f"FROM moda AS {name}")[1].split("\nFROM ")[0]
    assert "HEALTHCHECK" in lines


def test_the_service_is_run_as_moda_up_runs_it() -> None:
    command = next(line for line in DOCKERFILE if line.startswith("CMD") and '"service"' in line)
    assert json.loads(command.removeprefix("CMD "))[1:4] == python("service")[1:]


def test_ports_are_published_on_this_host_alone() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("name", ["worker", "service"])
def test_a_gpu_is_used_unless_one_variable_says_otherwise(name: str) -> None:
    assert SERVICES[name]["runtime"] == "${MODA_RUNTIME:-nvidia}"


@pytest.mark.parametrize("name", ["worker", "service"])
def test_work_begins_when_redis_is_healthy(name: str) -> None:
    assert SERVICES[name]["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert "healthcheck" in SERVICES["redis"]


def test_what_must_last_lies_on_named_volumes() -> None:
    command = SERVICES["redis"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert SERVICES["redis"]["volumes"] == ["redis:/data"]
    for name in ("worker", "service"):
        assert "registry:/var/lib/moda/registry" in SERVICES[name]["volumes"]
    assert {"redis", "registry"} <= set(COMPOSE["volumes"])

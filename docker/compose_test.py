"""Build the images and run the main job through them, with a real Docker engine and the compose file as it is.

    python docker/compose_test.py [--json FILE]

It makes a compose project of its own, with its own volumes and a free port, prints how long each step took
and how large the images are, and removes the containers, networks and volumes whatever happens. The runtime is
Docker's own unless `MODA_RUNTIME` names another, such as nvidia.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moda_core.errors import Unavailable
from service.client import Client

__all__: list[str] = []

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ("moda-service", "moda-worker")
START_TIMEOUT_S = 180
CLASSES = ["3", "8"]
MODULAR = {"dataset": "digits", "architecture": "cnn", "epochs": 20}
WEAK = {"dataset": "digits", "architecture": "lenet5", "objective": "standard", "epochs": 40, "fraction": 0.1}


class Steps:
    """The steps done so far, and the seconds of each."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a block, and say so on a line."""
        print(f"{name} ...", flush=True)
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 2)
        print(f"  {self.seconds[name]:.1f} s", flush=True)


class Project:
    """One compose project of our own."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        settings = {"MODA_RUNTIME": "runc", **os.environ, "MODA_PORT": str(self.port), "MODA_VERSION": "test"}
        self._environment = {**settings, "COMPOSE_PROJECT_NAME": f"moda-test-{os.getpid()}"}
        self._command = [*compose_command(), "--file", str(ROOT / "docker-compose.yml")]

    def run(self, *arguments: str) -> None:
        """Run a compose command, its output on our own, and raise if it fails."""
        subprocess.run([*self._command, *arguments], env=self._environment, check=True)

    def output(self, *arguments: str) -> str:
        """What a compose command prints."""
        done = subprocess.run([*self._command, *arguments], env=self._environment, check=True, capture_output=True)
        return done.stdout.decode()

    def wait_until_healthy(self) -> None:
        """Return when every container says that it is healthy."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            health = [
                docker("inspect", "-f", "{{.State.Health.Status}}", one) for one in self.output("ps", "-q").split()
            ]
            if len(health) == 3 and set(health) == {"healthy"}:
                return
            if time.monotonic() > deadline:
                raise Unavailable(f"containers are {health} after {START_TIMEOUT_S} s", "see their logs above")
            time.sleep(0.5)


def compose_command() -> list[str]:
    """`docker compose` where the plugin is installed, else the program of its own."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if plugin.returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise Unavailable("there is neither `docker compose` nor `docker-compose`", "install Docker with compose")


def docker(*arguments: str) -> str:
    """What a docker command prints."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def digit_images(labels: list[str], each: int) -> list[tuple[str, bytes]]:
    """Real handwritten digits as PNG files, the last `each` of scikit-learn's for each label."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = []
    for label in labels:
        for index in [i for i, target in enumerate(digits.target) if str(target) == label][-each:]:
            file = io.BytesIO()
            Image.fromarray((digits.images[index] * 255 / 16).round().astype("uint8")).save(file, "PNG")
            chosen.append((label, file.getvalue()))
    return chosen


def main_job(moda: Client, steps: Steps) -> dict[str, Any]:
    """Everything that the product is for, once: what it found."""
    with steps.step("import digits"):
        moda.wait(moda.import_dataset("digits", "digits").id)
    with steps.step("train modular and decompose"):
        moda.wait(moda.train(MODULAR, name="digits").id)
    with steps.step("train a weak model"):
        moda.wait(moda.train(WEAK, name="weak").id)
    with steps.step("compose"):
        pair = moda.compose("digits", CLASSES)
    with steps.step("predict"):
        images = digit_images(CLASSES, 20)
        answer = moda.predict(pair.id, [image for _, image in images])
        right = sum(one.label == truth for one, (truth, _) in zip(answer.predictions, images, strict=True))
    with steps.step("replace"):
        patched = moda.wait(moda.replace("weak", "digits", CLASSES[0], epochs=5).id)
    assert answer.classes == CLASSES, answer.classes
    assert right >= 0.8 * len(images), f"{right} of {len(images)} digits are right"
    return {
        "predicted_right": right,
        "predicted": len(images),
        "kept": pair.kept_parameters / pair.original_parameters,
        "patched": patched.result,
    }


def survives_restart(project: Project, moda: Client, steps: Steps) -> None:
    """Containers are made anew; models and job records must still be there."""
    before = {one.digest for one in moda.models()}, {job.id for job in moda.jobs()}
    with steps.step("make the containers anew"):
        project.run("up", "--detach", "--force-recreate", "--no-build")
        project.wait_until_healthy()
    assert before == ({one.digest for one in moda.models()}, {job.id for job in moda.jobs()})


def runs_unprivileged(project: Project) -> None:
    """No process of ours is root."""
    for name in ("service", "worker"):
        assert project.output("exec", "-T", name, "id", "-u").strip() == "10001", name


def main() -> int:
    """Run the test: exit status 0 when everything worked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, help="write sizes and times to this file too")
    options = parser.parse_args()
    if subprocess.run(["docker", "info"], check=False, capture_output=True).returncode:
        print("No Docker engine answers `docker info`: start one, and run this again.", file=sys.stderr)
        return 1
    project, steps = Project(), Steps()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is removed then too
    try:
        with steps.step("build"):
            project.run("build")
        with steps.step("start until healthy"):
            project.run("up", "--detach", "--no-build")
            project.wait_until_healthy()
        with Client(f"http://127.0.0.1:{project.port}") as moda:
            found = main_job(moda, steps)
            survives_restart(project, moda, steps)
        runs_unprivileged(project)
    except BaseException:
        project.run("logs", "--no-color", "--tail", "60")
        raise
    finally:
        project.run("down", "--volumes", "--timeout", "30")
    sizes = {name: int(docker("image", "inspect", "-f", "{{.Size}}", f"{name}:test")) for name in IMAGES}
    report: dict[str, Any] = {"seconds": steps.seconds, "image_bytes": sizes, "found": found}
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def show(report: Mapping[str, Mapping[str, Any]]) -> None:
    """The report as a table."""
    print()
    for name, seconds in report["seconds"].items():
        print(f"{name:<32}{seconds:>9.1f} s")
    for name, size in report["image_bytes"].items():
        print(f"{name:<32}{size / 1e9:>8.2f} GB")
    print(json.dumps(report["found"]))


if __name__ == "__main__":
    sys.exit(main())

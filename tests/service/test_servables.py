"""What requests mean is remembered within bounds, and for no longer than it holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from serving import modular_model

from moda_core.errors import NotFound
from moda_core.storage.artifacts import encode
from moda_core.storage.registry import Objects, Registry
from service.admission import admit
from service.inference import servables
from service.inference.servables import Servable, Servables

LABELS = ("cat", "dog", "ship")


def test_columns_are_found_by_label():
    meant = Servable("0" * 64, None, LABELS, ("ship", "cat"))
    assert meant.columns(LABELS) == (2, 0)
    assert meant.columns(["ship", "dog", "cat"]) == (0, 2)
    assert Servable("0" * 64, None, LABELS, LABELS).columns(LABELS) is None


@pytest.fixture(params=["folder", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    return Objects(tmp_path / "registry" if request.param == "folder" else "memory://")


@pytest.fixture
def digests(objects: Objects, tmp_path: Path) -> list[str]:
    found = []
    for seed in range(2):
        (tmp_path / "file").write_bytes(encode(modular_model(seed)))
        found.append(admit(Registry(objects), tmp_path / "file"))
    return found


class TestBounds:
    @pytest.fixture
    def resolved(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
        """The classes of each request that was not remembered."""
        asked: list[tuple[str, ...]] = []

        def resolve(registry: Registry, reference: str, classes: tuple[str, ...], _: object) -> Servable:
            asked.append(classes)
            return Servable(reference, None, classes, classes)

        monkeypatch.setattr(servables, "servable", resolve)
        return asked

    def find(self, known: Servables, *requests: str) -> None:
        """Each request is its classes, a letter for each."""
        for classes in requests:
            asyncio.run(known.find("0" * 64, tuple(classes)))

    def test_labels_are_limited_together_and_the_least_asked_goes_first(
        self, tmp_path: Path, resolved: list[tuple[str, ...]]
    ):
        known = Servables(Registry(tmp_path), most_labels=5)
        self.find(known, "ab", "cd", "ab", "ef")
        assert len(resolved) == 3
        self.find(known, "ab", "ef")
        assert len(resolved) == 3
        self.find(known, "cd")
        assert resolved[-1] == ("c", "d")

    def test_what_alone_has_too_many_is_not_kept(self, tmp_path: Path, resolved: list[tuple[str, ...]]):
        known = Servables(Registry(tmp_path), most_labels=2)
        self.find(known, "abc", "abc", "de", "de")
        assert len(resolved) == 3

    def test_what_is_resolved_anew_counts_once_and_is_the_newest(
        self, tmp_path: Path, resolved: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
    ):
        registry = Registry(tmp_path)
        known = Servables(registry, most_labels=5)
        self.find(known, "ab", "cd")
        with monkeypatch.context() as patch:
            patch.setattr(registry, "stamp", lambda _: "changed")
            self.find(known, "ab")
            self.find(known, "ef")
            self.find(known, "ab")
        assert resolved == [tuple(one) for one in ("ab", "cd", "ab", "ef")]


class TestChanges:
    """By another value on the same store, as another process would."""

    @pytest.fixture
    def model(self, objects: Objects) -> Callable[[str], str | None]:
        """The digest that answers for a reference; None where nothing does."""
        known = Servables(Registry(objects))

        def found(reference: str) -> str | None:
            try:
                return asyncio.run(known.find(reference)).model
            except NotFound:
                return None

        return found

    @pytest.fixture
    def soon(self, objects: Objects, model: Callable[[str], str | None]) -> Callable[[str, str | None], None]:
        """A reference means this at once, or within a second in a store elsewhere."""

        def means(reference: str, digest: str | None) -> None:
            until = time.monotonic() + (0 if objects.root else 1.2)
            while (answer := model(reference)) != digest and time.monotonic() < until:
                time.sleep(0.02)
            assert answer == digest

        return means

    @pytest.mark.parametrize("pause_s", [0, 0.07], ids=["at once", "when it is settled"])
    def test_of_versions_and_aliases_are_seen(
        self,
        objects: Objects,
        digests: list[str],
        soon: Callable[[str, str | None], None],
        pause_s: float,
    ):
        other = Registry(objects)

        def then(reference: str, digest: str | None) -> None:
            soon(reference, digest)
            time.sleep(pause_s)
            soon(reference, digest)

        other.publish_version("animals", digests[0])
        then("animals", digests[0])
        other.publish_version("animals", digests[1])
        then("animals", digests[1])
        other.set_alias("animals", "prod", 1)
        then("animals@prod", digests[0])
        other.set_alias("animals", "prod", 2)
        then("animals@prod", digests[1])
        other.delete("animals@2")
        then("animals", digests[0])
        then("animals@2", None)
        then("animals@prod", None)


def test_the_store_is_asked_once_for_all_that_a_turn_of_the_loop_has_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    registry = Registry(tmp_path)
    asked: list[str] = []
    monkeypatch.setattr(registry, "stamp", lambda reference: asked.append(reference) or 1)
    monkeypatch.setattr(servables, "servable", lambda _, reference, *__: Servable(reference, None, LABELS, LABELS))
    known = Servables(registry)

    async def scenario() -> None:
        for reference in ("a", "b"):
            await known.find(reference)
        await asyncio.sleep(0)
        asked.clear()
        await asyncio.gather(*(known.find(reference) for reference in "abab"))
        assert asked == ["a", "b"]
        await asyncio.sleep(0)
        await known.find("a")
        assert asked == ["a", "b", "a"]

    asyncio.run(scenario())

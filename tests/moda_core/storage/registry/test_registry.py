import json
import threading
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import obstore
import pytest
import torch

from moda_core.data.dataset import Dataset
from moda_core.errors import Corrupt, InvalidInput, NotFound, PreconditionFailed, StorageFailure, UnreadableFile
from moda_core.modularity.models import ModularModel, TrainedModel
from moda_core.specs import canonical_json, sha256
from moda_core.storage import datasets
from moda_core.storage.artifacts import encode, encode_counts
from moda_core.storage.manifests import BlobRef, Composition, Manifest
from moda_core.storage.registry import Objects, Registry


@pytest.fixture(params=["folder", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    return Objects(tmp_path / "registry" if request.param == "folder" else "memory://")


@pytest.fixture
def registry(objects: Objects) -> Registry:
    return Registry(objects)


@pytest.fixture
def publish(registry: Registry, trained: TrainedModel) -> Callable[..., str]:
    """Store a model with these metrics and return its digest."""

    def stored(**metrics: float) -> str:
        return registry.put_manifest(described(trained, registry.put_blob(encode(trained)), metrics=metrics))

    return stored


def described(model: TrainedModel | ModularModel, weights: BlobRef, **more: object) -> Manifest:
    kind = "trained" if isinstance(model, TrainedModel) else "composed" if model.composed else "modular"
    fields = {"architecture": model.architecture, "labels": model.labels, "input": model.input}
    return Manifest(kind=kind, blobs={"weights": weights, **more.pop("blobs", {})}, **fields, **more)


def overwrite(objects: Objects, key: str, data: bytes) -> None:
    """As a broken disk or another program would: not through the registry."""
    if objects.root:
        (objects.root / key).write_bytes(data)
    else:
        objects.put(key, data)


def together(count: int, work: Callable[[int], object]) -> list[object]:
    """Run `work` in `count` threads at once."""
    results: list[object] = [None] * count
    start = threading.Barrier(count)

    def run(number: int) -> None:
        start.wait()
        results[number] = work(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class TestBlobs:
    def test_are_named_by_their_sha256_and_read_back(self, registry: Registry) -> None:
        blob = registry.put_blob(b"some bytes")
        assert blob == BlobRef(sha256(b"some bytes"), 10)
        assert registry.blob_path(blob).read_bytes() == b"some bytes"
        assert registry.put_blob(b"some bytes") == blob

    def test_that_are_absent_are_not_found(self, registry: Registry) -> None:
        with pytest.raises(NotFound):
            registry.blob_path(BlobRef("0" * 64, 1))

    @pytest.mark.parametrize("bytes_", [b"some bytez", b"some", b"some bytes and more", b""])
    def test_that_were_altered_are_corrupt(self, objects: Objects, bytes_: bytes) -> None:
        blob = Registry(objects).put_blob(b"some bytes")
        overwrite(objects, f"blobs/{blob.digest[:2]}/{blob.digest}", bytes_)
        with pytest.raises(Corrupt):
            Registry(objects).blob_path(blob)

    def test_are_mended_by_publishing_them_again(self, objects: Objects) -> None:
        blob = Registry(objects).put_blob(b"some bytes")
        overwrite(objects, f"blobs/{blob.digest[:2]}/{blob.digest}", b"some")
        Registry(objects).put_blob(b"some bytes")
        assert Registry(objects).blob_path(blob).read_bytes() == b"some bytes"

    def test_from_elsewhere_are_cached_and_a_broken_copy_is_fetched_again(self, tmp_path: Path) -> None:
        objects = Objects("memory://")
        registry = Registry(objects, cache=tmp_path / "cache")
        blob = registry.put_blob(b"some bytes")
        path = registry.blob_path(blob)
        assert path.parent == tmp_path / "cache"
        for damage in (b"some", b"some bytez"):
            path.write_bytes(damage)
            assert registry.blob_path(blob).read_bytes() == b"some bytes"
            path.write_bytes(damage)
            assert Registry(objects, cache=tmp_path / "cache").blob_path(blob).read_bytes() == b"some bytes"
        assert [entry.name for entry in path.parent.iterdir()] == [blob.digest]


class TestManifests:
    def test_are_named_by_the_sha256_of_their_canonical_json(self, registry: Registry, objects: Objects) -> None:
        del registry
        manifest_text = canonical_json({"b": 1, "a": "ü"})
        assert manifest_text == '{"a":"ü","b":1}'
        assert objects.keys("manifests") == []

    def test_are_read_back_equal(self, objects: Objects, trained: TrainedModel) -> None:
        registry = Registry(objects)
        manifest = described(
            trained,
            registry.put_blob(b"x"),
            spec={"seed": 1},
            spec_digest="1" * 64,
            metrics={"accuracy": 0.5},
            threshold=Decimal("0.9"),
            dataset={"digest": "2" * 64, "fraction": 1.0, "seed": 0},
        )
        digest = registry.put_manifest(manifest)
        stored = objects.get(f"manifests/{digest}.json")
        assert sha256(stored) == digest
        assert canonical_json(json.loads(stored)).encode() == stored
        assert Registry(objects).manifest(digest) == manifest

    def test_that_were_altered_are_corrupt(self, objects: Objects, publish: Callable[..., str]) -> None:
        digest = publish()
        overwrite(objects, f"manifests/{digest}.json", b"{}")
        with pytest.raises(Corrupt):
            Registry(objects).manifest(digest)

    def test_are_mended_by_publishing_them_again(self, objects: Objects, publish: Callable[..., str]) -> None:
        digest = publish()
        overwrite(objects, f"manifests/{digest}.json", b"{}")
        assert publish() == digest
        assert Registry(objects).manifest(digest).kind == "trained"

    def test_of_another_format_are_unreadable(self, objects: Objects) -> None:
        text = canonical_json({"format": 2, "kind": "trained"}).encode()
        objects.put(f"manifests/{sha256(text)}.json", text)
        with pytest.raises(UnreadableFile, match="another format"):
            Registry(objects).manifest(sha256(text))

    def test_digests_that_are_none_are_refused(self, registry: Registry) -> None:
        with pytest.raises(InvalidInput):
            registry.manifest("../../etc/passwd")
        with pytest.raises(NotFound):
            registry.manifest("0" * 64)


class TestVersions:
    def test_count_up_and_the_latest_is_the_highest(self, registry: Registry, publish: Callable[..., str]) -> None:
        one, two = publish(a=1), publish(a=2)
        assert [registry.publish_version("digits", digest) for digest in (one, two)] == [1, 2]
        assert registry.resolve("digits").digest == registry.resolve("digits@latest").digest == two
        assert registry.resolve("digits@1").digest == one
        assert (registry.resolve("digits").name, registry.resolve("digits").version) == ("digits", 2)
        assert [entry.name for entry in registry.models()] == ["digits"]

    def test_resolve_by_digest_with_and_without_a_prefix(self, registry: Registry, publish: Callable[..., str]) -> None:
        digest = publish()
        assert registry.resolve(digest).digest == registry.resolve(f"sha256:{digest}").digest == digest

    def test_need_a_manifest(self, registry: Registry) -> None:
        with pytest.raises(NotFound):
            registry.publish_version("digits", "0" * 64)
        assert registry.models() == []

    def test_name_the_job_and_finishing_it_twice_is_one_version(
        self, registry: Registry, publish: Callable[..., str]
    ) -> None:
        one, two = publish(a=1), publish(a=2)
        assert registry.publish_version("digits", one, "job-1") == 1
        assert registry.publish_version("digits", two, "job-1") == 2
        assert registry.publish_version("digits", one, "job-2") == 3
        assert registry.publish_version("digits", one, "job-1") == 1
        assert [version.job_id for version in registry.versions("digits")] == ["job-1", "job-1", "job-2"]

    def test_of_one_job_finished_by_many_at_once_are_one(self, objects: Objects, publish: Callable[..., str]) -> None:
        digest = publish()
        registries = [Registry(objects) for _ in range(8)]
        numbers = together(8, lambda number: registries[number].publish_version("digits", digest, "job"))
        assert numbers == [1] * 8
        assert len(registries[0].versions("digits")) == 1

    def test_published_by_many_at_once_take_different_numbers(
        self, objects: Objects, publish: Callable[..., str]
    ) -> None:
        digest = publish()
        numbers = together(8, lambda number: Registry(objects).publish_version("digits", digest, f"job-{number}"))
        assert sorted(numbers) == list(range(1, 9))

    def test_that_are_deleted_are_gone_and_their_numbers_never_come_back(
        self, registry: Registry, publish: Callable[..., str]
    ) -> None:
        digests = [publish(a=number) for number in range(3)]
        for digest in digests:
            registry.publish_version("digits", digest)
        assert [version.number for version in registry.delete("digits")] == [3]
        assert registry.resolve("digits").version == 2
        with pytest.raises(NotFound, match="live versions are 1, 2"):
            registry.resolve("digits@3")
        with pytest.raises(NotFound):
            registry.delete("digits@3")
        assert registry.publish_version("digits", digests[2]) == 4
        assert [version.deleted for version in registry.versions("digits")] == [False, False, True, False]

    def test_all_deleted_leave_no_model_but_its_numbers(self, registry: Registry, publish: Callable[..., str]) -> None:
        digest = publish()
        registry.publish_version("digits", digest)
        registry.publish_version("other", digest)
        assert {version.name for version in registry.delete(digest)} == {"digits", "other"}
        assert registry.models() == []
        with pytest.raises(NotFound, match="none yet"):
            registry.resolve("digits")
        assert registry.manifest(digest).kind == "trained"
        assert registry.publish_version("digits", digest) == 2

    @pytest.mark.parametrize("name", ["a" * 64, "Digits", "../x", "", "a/b", "a@b"])
    def test_have_names_that_are_names(self, registry: Registry, publish: Callable[..., str], name: str) -> None:
        with pytest.raises(InvalidInput):
            registry.publish_version(name, publish())

    def test_of_an_unknown_name_are_not_found(self, registry: Registry) -> None:
        for ask in (registry.resolve, registry.versions, registry.delete):
            with pytest.raises(NotFound):
                ask("nothing")

    def test_ignore_other_files_among_the_records(
        self, registry: Registry, objects: Objects, publish: Callable[..., str]
    ) -> None:
        registry.publish_version("digits", publish())
        objects.put("models/digits/versions/notes.txt", b"hello")
        objects.put("models/digits/versions/.hidden.tmp", b"hello")
        assert [version.number for version in registry.versions("digits")] == [1]

    def test_whose_record_is_broken_are_corrupt(self, objects: Objects, publish: Callable[..., str]) -> None:
        Registry(objects).publish_version("digits", publish())
        for broken in (b"{", b"[]", b'{"digest": 1}'):
            overwrite(objects, "models/digits/versions/000001.json", broken)
            with pytest.raises(Corrupt):
                Registry(objects).resolve("digits")

    def test_are_listed_once_and_one_that_vanishes_meanwhile_is_passed_over(
        self, registry: Registry, objects: Objects, publish: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("cars", "digits"):
            registry.publish_version(name, publish())
        keys, listed = objects.keys, []

        def listing(folder: str) -> list[str]:
            listed.append(folder)
            found = keys(folder)
            for key in keys("models/cars/versions"):
                objects.delete(key)
            return found

        monkeypatch.setattr(objects, "keys", listing)
        assert [entry.name for entry in Registry(objects).models()] == ["digits"]
        assert listed == ["models/cars", "models/digits"]

    @pytest.mark.parametrize("name", ["../x", "..", "a//b", "a\0b", "\ud800"])
    def test_of_what_is_no_name_are_asked_for_in_vain(self, registry: Registry, name: str) -> None:
        for ask in (registry.resolve, registry.versions, registry.aliases, lambda name: registry.alias(name, "prod")):
            with pytest.raises((InvalidInput, NotFound)):
                ask(name)
        with pytest.raises((InvalidInput, NotFound)):
            registry.set_alias(name, "prod", 1)


class TestAliases:
    @pytest.fixture(autouse=True)
    def _two_versions(self, registry: Registry, publish: Callable[..., str]) -> None:
        self.digests = [publish(a=1), publish(a=2)]
        for digest in self.digests:
            registry.publish_version("digits", digest)

    def test_mean_a_version_by_number_or_digest_and_keep_their_history(self, registry: Registry) -> None:
        assert registry.set_alias("digits", "prod", 1).number == 1
        assert registry.resolve("digits@prod").digest == self.digests[0]
        assert registry.set_alias("digits", "prod", self.digests[1]).number == 2
        assert registry.resolve("digits@prod").version == 2
        assert [alias.version for alias in registry.alias_history("digits", "prod")] == [1, 2]
        assert [(alias.alias, alias.version) for alias in registry.aliases("digits")] == [("prod", 2)]

    def test_are_set_only_as_they_were_seen(self, registry: Registry) -> None:
        first = registry.set_alias("digits", "prod", 1, expected=0)
        with pytest.raises(PreconditionFailed):
            registry.set_alias("digits", "prod", 2, expected=0)
        assert registry.alias("digits", "prod") == first
        assert registry.set_alias("digits", "prod", 2, expected=first.number).version == 2

    def test_set_by_many_at_once_are_set_by_one(self, objects: Objects) -> None:
        def attempt(number: int) -> bool:
            try:
                Registry(objects).set_alias("digits", "prod", 1 + number % 2, expected=0)
            except PreconditionFailed:
                return False
            return True

        assert sum(map(bool, together(8, attempt))) == 1

    @pytest.mark.parametrize("alias", ["7", "latest", "Prod", "a/b", ""])
    def test_are_no_numbers_and_not_latest(self, registry: Registry, alias: str) -> None:
        with pytest.raises(InvalidInput):
            registry.set_alias("digits", alias, 1)

    def test_of_what_is_not_there_are_not_found(self, registry: Registry) -> None:
        for target in (3, "0" * 64, "digits"):
            with pytest.raises(NotFound):
                registry.set_alias("digits", "prod", target)
        with pytest.raises(NotFound):
            registry.resolve("digits@prod")
        with pytest.raises(NotFound):
            registry.alias("digits", "prod")

    def test_of_a_deleted_version_are_not_found(self, registry: Registry) -> None:
        registry.set_alias("digits", "prod", 1)
        registry.delete("digits@1")
        with pytest.raises(NotFound):
            registry.resolve("digits@prod")


class TestModels:
    def test_trained_weights_and_counts_are_loaded_as_a_modular_model(
        self, registry: Registry, trained: TrainedModel, modular: ModularModel
    ) -> None:
        weights, counts = registry.put_blob(encode(trained)), registry.put_blob(encode_counts(modular))
        manifest = described(modular, weights, blobs={"counts": counts}, threshold=modular.threshold)
        loaded = registry.model(registry.put_manifest(manifest))
        assert isinstance(loaded, ModularModel)
        assert encode(loaded) == encode(modular)

    def test_a_file_of_another_model_than_the_manifest_says_is_unreadable(
        self, registry: Registry, trained: TrainedModel
    ) -> None:
        other = replace(trained, labels=("x", "y", "z"))
        digest = registry.put_manifest(described(trained, registry.put_blob(encode(other))))
        with pytest.raises(UnreadableFile, match="another labels"):
            registry.model(digest)

    def test_altered_weights_are_corrupt(self, objects: Objects, publish: Callable[..., str]) -> None:
        digest = publish()
        blob = Registry(objects).manifest(digest).blobs["weights"]
        key = f"blobs/{blob.digest[:2]}/{blob.digest}"
        data = bytearray(objects.get(key))
        data[-1] ^= 1
        overwrite(objects, key, bytes(data))
        with pytest.raises(Corrupt):
            Registry(objects).model(digest)


class TestCompositions:
    def test_have_one_id_for_one_request_in_any_order(self, registry: Registry, publish: Callable[..., str]) -> None:
        digest = publish()
        recipe = Composition(digest, ("dog", "cat"), Decimal("0.90"))
        expected = f'{{"classes":["cat","dog"],"format":1,"model":"{digest}","threshold":"0.9"}}'
        assert recipe.id == sha256(expected)
        assert registry.put_composition(recipe) == recipe.id
        assert registry.put_composition(Composition(digest, ("cat", "dog"), Decimal("0.9"))) == recipe.id
        assert registry.composition(recipe.id) == recipe
        assert registry.compositions() == [recipe]

    def test_that_were_never_asked_for_are_not_found(self, registry: Registry) -> None:
        with pytest.raises(NotFound):
            registry.composition("0" * 64)
        with pytest.raises(NotFound):
            registry.put_composition(Composition("0" * 64, ("cat",), Decimal(1)))

    @pytest.mark.parametrize("text", ["..", "", "../../outside", "a/b", "\ud800"])
    def test_under_what_is_no_id_are_not_found(self, registry: Registry, objects: Objects, text: str) -> None:
        objects.put("compositions/notes/hello.txt", b"hello")
        with pytest.raises(NotFound):
            registry.composition(text)
        with pytest.raises(NotFound):
            registry.put_composition_file(text, b"file")
        assert registry.compositions() == []

    def test_whose_recipe_was_altered_are_corrupt(self, objects: Objects, publish: Callable[..., str]) -> None:
        recipe = Composition(publish(), ("cat",), Decimal(1))
        Registry(objects).put_composition(recipe)
        other = canonical_json(Composition(recipe.model, ("dog",), Decimal(1)).to_json()).encode()
        overwrite(objects, f"compositions/{recipe.id}/recipe.json", other)
        with pytest.raises(Corrupt):
            Registry(objects).composition(recipe.id)

    def test_of_which_only_a_file_was_kept_are_passed_over(
        self, registry: Registry, publish: Callable[..., str]
    ) -> None:
        recipe, bare = (Composition(publish(), (label,), Decimal(1)) for label in ("cat", "dog"))
        registry.put_composition(recipe)
        registry.put_composition_file(bare.id, b"file")
        assert registry.compositions() == [recipe]

    def test_keep_the_first_file_derived(self, registry: Registry, publish: Callable[..., str]) -> None:
        composition_id = registry.put_composition(Composition(publish(), ("cat",), Decimal(1)))
        assert registry.composition_file(composition_id) is None
        first = registry.put_composition_file(composition_id, b"file")
        assert registry.put_composition_file(composition_id, b"other") == first
        assert registry.composition_file(composition_id) == first
        assert registry.composition_file(composition_id, "onnx") is None
        exported = registry.put_composition_file(composition_id, b"onnx", "onnx")
        assert registry.put_composition_file(composition_id, b"newer", "onnx") == exported
        assert registry.composition_file(composition_id, "onnx") == exported != first
        assert registry.blob_path(first).read_bytes() == b"file"


class TestDatasets:
    def test_are_read_back_equal(self, registry: Registry, dataset: Dataset) -> None:
        digest = registry.put_dataset("parity", dataset)
        for reference in ("parity", "parity@1", digest, f"sha256:{digest}"):
            found = registry.dataset(reference)
            assert (found.classes, found.mirror) == (dataset.classes, dataset.mirror)
            assert torch.equal(found.train.pixels, dataset.train.pixels)
            assert torch.equal(found.test.labels, dataset.test.labels)
            assert datasets.encode(found) == datasets.encode(dataset)

    def test_are_described_without_loading_them(self, registry: Registry, dataset: Dataset) -> None:
        registry.put_dataset("parity", dataset)
        (entry,) = registry.datasets()
        assert (entry.name, entry.version) == ("parity", 1)
        assert entry.manifest.classes == ("even", "odd")
        assert entry.manifest.images == {"train": 12, "test": 6}
        assert entry.manifest.shape == (1, 8, 8)

    def test_stored_twice_are_one_version_and_changed_are_another(self, registry: Registry, dataset: Dataset) -> None:
        digest = registry.put_dataset("parity", dataset)
        assert registry.put_dataset("parity", dataset) == digest
        assert registry.put_dataset("parity", replace(dataset, mirror=True)) != digest
        assert registry.resolve_dataset("parity").version == 2

    def test_that_are_deleted_are_gone(self, registry: Registry, dataset: Dataset) -> None:
        registry.put_dataset("parity", dataset)
        registry.delete_dataset("parity")
        assert registry.datasets() == []
        with pytest.raises(NotFound, match="dataset"):
            registry.dataset("parity")

    def test_are_no_models(self, registry: Registry, dataset: Dataset, publish: Callable[..., str]) -> None:
        with pytest.raises(NotFound):
            registry.resolve(registry.put_dataset("parity", dataset))
        with pytest.raises(NotFound):
            registry.dataset(publish())


class TestPublications:
    def test_the_first_claim_holds(self, registry: Registry) -> None:
        assert registry.publication("job") is None
        assert registry.claim_publication("job", ["1" * 64, "2" * 64]) == ["1" * 64, "2" * 64]
        assert registry.claim_publication("job", ["3" * 64]) == ["1" * 64, "2" * 64]
        assert registry.publication("job") == ["1" * 64, "2" * 64]

    def test_of_many_claims_at_once_all_get_the_same(self, objects: Objects) -> None:
        claims = together(8, lambda number: tuple(Registry(objects).claim_publication("job", [f"{number:064d}"])))
        assert len(set(claims)) == 1

    @pytest.mark.parametrize("job_id", ["", "../x", "a/b", "a" * 200])
    def test_need_a_jobs_id(self, registry: Registry, job_id: str) -> None:
        with pytest.raises(InvalidInput):
            registry.claim_publication(job_id, [])


class TestStore:
    def test_is_checked_any_number_of_times(self, registry: Registry, objects: Objects) -> None:
        together(8, lambda _: registry.check())
        registry.check()
        assert objects.keys("") == ["ready.json"]

    def test_failures_are_ours(self, objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
        def failing(*_: object, **__: object) -> None:
            raise obstore.exceptions.GenericError("the network is gone\n\nDebug source:")

        for name in ("get", "put", "list", "head", "list_with_delimiter", "delete"):
            monkeypatch.setattr(obstore, name, failing)
        with pytest.raises(StorageFailure, match="the network is gone; check"):
            Registry(objects).models()
        with pytest.raises(StorageFailure):
            Registry(objects).check()

    @pytest.mark.parametrize("location", ["nonsense://bucket", "s3://"])
    def test_urls_that_name_no_store_are_refused(self, location: str) -> None:
        with pytest.raises(InvalidInput, match="registry"):
            Registry(location)

"""What jobs do, on real digits and a real registry, with networks small enough to train in a second."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moda_core.data.dataset import Images
from moda_core.errors import Cancelled, Conflict, InvalidInput, NotFound
from moda_core.modularity.composition import compose
from moda_core.modularity.models import ModularModel, PatchedModel, TrainedModel, kind_of
from moda_core.modularity.networks import network
from moda_core.specs import AdaptationSpec, TrainingSpec
from moda_core.storage import artifacts
from moda_core.storage.manifests import Manifest
from moda_core.storage.registry import Registry
from moda_core.storage.workflows import decompose, evaluate, import_dataset, replace, store_dataset, train
from moda_core.storage.workflows.testing import images_of_labels
from moda_core.training.evaluation import logits

TAU = Decimal("0.9")
DIGITS = tuple("0123456789")


class Listener:
    """A caller that notes every event, and can ask to stop after some of them."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self._stop_after = stop_after

    def progress(self, event: Mapping[str, Any]) -> None:
        self.events.append(dict(event))

    def cancelled(self) -> bool:
        return self._stop_after is not None and len(self.events) >= self._stop_after


class World:
    """A registry with digits and three models on it."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry(folder)
        self.digits = str(import_dataset(self.registry, "digits", "digits", control=Listener())["digest"])
        self.control = Listener()
        self.trained, self.modular = self.train(self.spec(), threshold=TAU, control=self.control)
        (self.weak,) = self.train(self.spec(architecture="lenet5", objective="standard", fraction=0.1))

    def spec(self, **changes: Any) -> TrainingSpec:
        values = {"dataset": self.digits, "architecture": "cnn", "width": 0.25, "epochs": 2, **changes}
        return TrainingSpec(**values)

    def train(
        self, spec: TrainingSpec, *, threshold: Decimal | None = None, control: Listener | None = None
    ) -> list[str]:
        return train(self.registry, spec, threshold=threshold, device="cpu", control=control or Listener())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("registry"))


def test_an_import_says_what_it_stored(world: World) -> None:
    again = import_dataset(world.registry, "digits", "digits", control=Listener())
    assert again == {
        "dataset": "digits",
        "digest": world.digits,
        "classes": list(DIGITS),
        "images": {"train": 1438, "test": 359},
    }


def test_an_import_can_be_stored_without_a_name_and_from_an_upload(tmp_path: Path) -> None:
    registry, source = Registry(tmp_path / "registry"), tmp_path / "set.npz"
    pixels, labels = np.zeros((4, 8, 8), dtype=np.uint8), np.array([0, 1, 0, 1])
    np.savez(source, x_train=pixels, y_train=labels, x_test=pixels, y_test=labels, classes=np.array(["1", "2"]))
    stored = store_dataset(registry, str(source), control=Listener())
    assert registry.datasets() == []
    assert stored == {
        "digest": registry.resolve_dataset(stored["digest"]).digest,
        "classes": ["1", "2"],
        "images": {"train": 4, "test": 4},
    }
    upload = f"upload:{registry.put_upload(source)}"
    source.unlink()
    assert store_dataset(registry, upload, control=Listener()) == stored


def test_training_with_a_threshold_stores_the_trained_and_the_modular_model(world: World) -> None:
    kinds = [kind_of(world.registry.model(digest)) for digest in (world.trained, world.modular)]
    assert kinds == ["trained", "modular"]


def test_training_without_a_threshold_stores_the_trained_model_alone(world: World) -> None:
    assert world.registry.manifest(world.weak).kind == "trained"


def test_the_caller_hears_of_every_epoch_and_stage(world: World) -> None:
    epochs = [event for event in world.control.events if event["event"] == "epoch"]
    stages = [event["stage"] for event in world.control.events if event["event"] == "stage"]
    assert [event["epoch"] for event in epochs] == [1, 2]
    assert {"loss", "affinity", "dispersion", "compactness", "remaining_s"} <= epochs[0].keys()
    assert stages == ["counting activations", "cutting modules"]


def test_the_manifest_states_what_was_asked_and_what_came_out(world: World) -> None:
    manifest = world.registry.manifest(world.trained)
    assert manifest.spec == world.spec().to_json()
    assert manifest.spec_digest == world.spec().digest()
    assert manifest.dataset == {"digest": world.digits, "fraction": 1.0, "seed": 0}
    assert manifest.metrics["n"] == 359
    assert len(manifest.metrics["history"]) == 2
    assert manifest.execution["device"] == "cpu"


def test_accuracy_in_the_manifest_is_that_of_the_stored_network(world: World) -> None:
    dataset = world.registry.dataset(world.digits)
    asked = network(world.registry.model(world.modular))
    answers = logits(asked, dataset.test, asked.inputs, device="cpu").argmax(1)
    share = float((answers == dataset.test.labels).double().mean())
    assert world.registry.manifest(world.modular).metrics["accuracy"] == share


def test_the_modular_model_shares_the_weights_file_and_has_one_file_per_class(world: World) -> None:
    trained, modular = (world.registry.manifest(digest) for digest in (world.trained, world.modular))
    assert modular.blobs["weights"] == trained.blobs["weights"]
    assert modular.lineage == {"parents": [world.trained]}
    assert set(modular.blobs) == {"weights", "counts", *(f"modules/{label}" for label in DIGITS)}
    assert set(modular.sizes) == set(DIGITS)


def test_a_module_file_is_the_model_composed_of_its_class(world: World) -> None:
    modular = world.registry.model(world.modular)
    blob = world.registry.manifest(world.modular).blobs["modules/7"]
    assert world.registry.blob_path(blob).read_bytes() == artifacts.encode(compose(modular, ["7"]))


def test_counts_are_of_the_training_images_that_the_model_saw(world: World) -> None:
    (weak,) = decompose(world.registry, world.weak, TAU, device="cpu", control=Listener())
    model = world.registry.model(weak)
    assert isinstance(model, ModularModel)
    assert sum(model.counts.samples) == 143


def test_decomposing_again_at_another_threshold_keeps_the_counts(world: World) -> None:
    listener = Listener()
    (other,) = decompose(world.registry, world.modular, Decimal("0.5"), device="cpu", control=listener)
    before, after = (world.registry.manifest(digest) for digest in (world.modular, other))
    assert "counting activations" not in [event.get("stage") for event in listener.events]
    assert after.threshold == Decimal("0.5")
    assert all(after.sizes[label] >= before.sizes[label] for label in DIGITS)


def test_a_composed_model_is_not_decomposed(world: World) -> None:
    composed = compose(world.registry.model(world.modular), ["1", "2"])
    digest = _stored(world.registry, composed, world.registry.manifest(world.modular))
    with pytest.raises(Conflict, match="a composed model cannot be decomposed"):
        decompose(world.registry, digest, TAU, device="cpu", control=Listener())


def test_a_model_from_elsewhere_is_not_decomposed_without_its_data(world: World) -> None:
    foreign = _stored(world.registry, world.registry.model(world.trained), None)
    with pytest.raises(Conflict, match="does not name the data set"):
        decompose(world.registry, foreign, TAU, device="cpu", control=Listener())


def test_an_activation_that_never_reaches_zero_is_refused_before_the_first_step(world: World) -> None:
    listener = Listener()
    spec = world.spec(architecture="torchvision/efficientnet_b0", width=1.0, image_size=32)
    with pytest.raises(InvalidInput, match="epsilon"):
        world.train(spec, threshold=TAU, control=listener)
    assert listener.events == []


def test_a_cancelled_training_goes_on_from_its_checkpoint(world: World) -> None:
    spec = world.spec(epochs=3, seed=5)
    with pytest.raises(Cancelled):
        world.train(spec, control=Listener(stop_after=2))
    resumed = Listener()
    (digest,) = world.train(spec, control=resumed)
    assert [event["epoch"] for event in resumed.events if event["event"] == "epoch"] == [3]
    assert len(world.registry.manifest(digest).metrics["history"]) == 3


def test_an_evaluation_of_classes_is_one_of_their_composition(world: World) -> None:
    found = evaluate(world.registry, world.modular, ["8", "3"], world.digits, device="cpu", control=Listener())
    dataset = world.registry.dataset(world.digits)
    composed = network(compose(world.registry.model(world.modular), ["3", "8"]))
    images = images_of_labels(dataset.test, dataset.classes, ("3", "8"))
    right = logits(composed, images, composed.inputs, device="cpu").argmax(1) == images.labels
    assert found["classes"] == ["3", "8"]
    assert found["n"] == len(images) == found["per_class"]["3"]["n"] + found["per_class"]["8"]["n"]
    assert found["accuracy"] == float(right.double().mean())


def test_an_undecomposed_model_is_evaluated_whole_but_not_composed(world: World) -> None:
    whole = evaluate(world.registry, world.weak, None, world.digits, device="cpu", control=Listener())
    assert whole["n"] == 359
    with pytest.raises(Conflict, match="never decomposed"):
        evaluate(world.registry, world.weak, ["1"], world.digits, device="cpu", control=Listener())


def test_a_replacement_learns_on_the_weak_models_own_images(world: World) -> None:
    (digest,), result = _replaced(world, "4", None)
    patched = world.registry.model(digest)
    assert isinstance(patched, PatchedModel)
    assert patched.labels == DIGITS
    assert result["class"] == "4"
    assert result["target"]["n"] + result["non_target"]["n"] == result["all"]["n"] == 359
    assert world.registry.manifest(digest).lineage == {"parents": [world.weak, world.modular]}


def test_a_replacement_states_the_accuracies_of_the_two_stored_models(world: World) -> None:
    (digest,), result = _replaced(world, "4", world.digits)
    before, after = (world.registry.manifest(one).metrics for one in (world.weak, digest))
    assert result["all"] == {"before": before["accuracy"], "after": after["accuracy"], "n": 359}
    assert result["target"]["before"] == before["per_class"]["4"]["accuracy"]
    assert result["target"]["after"] == after["per_class"]["4"]["accuracy"]


def test_a_replacement_needs_the_class_in_model_and_data(world: World, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no class 'x'"):
        _replaced(world, "x", None)
    lacking = tmp_path / "lacking.npz"
    pixels, labels = np.zeros((4, 8, 8), dtype=np.uint8), np.array([0, 1, 0, 1])
    np.savez(lacking, x_train=pixels, y_train=labels, x_test=pixels, y_test=labels, classes=np.array(["1", "2"]))
    digest = import_dataset(world.registry, "lacking", str(lacking), control=Listener())["digest"]
    with pytest.raises(InvalidInput, match="no image of the class"):
        _replaced(world, "4", digest)


def test_a_trained_model_is_no_strong_one(world: World) -> None:
    with pytest.raises(Conflict, match="never decomposed"):
        replace(
            world.registry, world.weak, world.trained, "4", None, AdaptationSpec(), device="cpu", control=Listener()
        )


def test_images_are_relabelled_by_the_models_order_and_others_left_out() -> None:
    images = Images(torch.arange(5, dtype=torch.uint8).reshape(5, 1, 1, 1), torch.tensor([0, 1, 2, 1, 0]))
    found = images_of_labels(images, ("ant", "bee", "cow"), ("cow", "dog", "ant"))
    assert found.labels.tolist() == [2, 0, 2]
    assert found.pixels.flatten().tolist() == [0, 2, 4]


def test_data_of_other_classes_is_refused() -> None:
    images = Images(torch.zeros(1, 1, 1, 1, dtype=torch.uint8), torch.tensor([0]))
    with pytest.raises(InvalidInput, match="none of the model's classes"):
        images_of_labels(images, ("ant",), ("cow",))


def _replaced(world: World, label: str, dataset: str | None) -> tuple[list[str], dict[str, Any]]:
    spec = AdaptationSpec(epochs=2)
    return replace(world.registry, world.weak, world.modular, label, dataset, spec, device="cpu", control=Listener())


def _stored(registry: Registry, model: TrainedModel | ModularModel, like: Manifest | None) -> str:
    """Store a model as it would come from elsewhere, or with another's provenance."""
    modular = isinstance(model, ModularModel)
    return registry.put_manifest(
        Manifest(
            kind=kind_of(model),
            architecture=model.architecture,
            labels=model.labels,
            input=model.input,
            blobs={"weights": registry.put_blob(artifacts.encode(model))},
            rows=model.rows if modular else None,
            threshold=model.threshold if modular else None,
            dataset=like.dataset if like else None,
        )
    )

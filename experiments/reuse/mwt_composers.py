"""Compositions by MwT's modules: as they are cut, with generators kept, or fine-tuned."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from experiments.models.decomposition import exact
from experiments.models.mwt import MwtRun
from experiments.records.result_file import Row
from experiments.reuse.composers import costs
from experiments.reuse.modules import measured_modules
from experiments.reuse.subtasks import Subtask
from moda_core.baselines.mwt.composition import compose_mwt, mwt_plan, mwt_size, whole_mwt
from moda_core.baselines.mwt.measures import kernel_retention
from moda_core.baselines.mwt.modules import THRESHOLD, ModuleMasks
from moda_core.baselines.mwt.reuse import reuse_fine_tuned
from moda_core.baselines.mwt.tuning import FineTuningSpec
from moda_core.data.dataset import Dataset

__all__ = ["FineTunedComposer", "MwtComposer"]


class MwtComposer:
    """Composes without fine-tuning: the wanted rows of the original logits.

    Args:
        run: the model.
        masks: its modules at MwT's τ.
        keep_generators: let kept kernels have the soft masks of training.
        device: where to cut and run.
    """

    form = "kernels"

    def __init__(self, run: MwtRun, masks: ModuleMasks, *, keep_generators: bool = False, device: str = "cpu") -> None:
        form = self.form + (" and generators" if keep_generators else "")
        self.identity: Row = {"model": run.digest, "threshold": exact(THRESHOLD), "form": form}
        self.masks, self.keep_generators, self.device = masks, keep_generators, device
        self.model = replace(
            run.model,
            weights={name: weight.to(device) for name, weight in run.model.weights.items()},
            generators={name: weight.to(device) for name, weight in run.model.generators.items()},
        )

    def whole(self) -> nn.Module:
        """The uncut network under its generators' masks."""
        return whole_mwt(self.model, self.device).get_submodule("body")

    def composed(self, task: Subtask) -> tuple[nn.Module, Row]:
        """One composed model, and what it keeps."""
        labels = [self.model.labels[position] for position in task]
        built = compose_mwt(self.model, self.masks, labels, keep_generators=self.keep_generators, device=self.device)
        sliced, undropped = (
            mwt_plan(self.model, self.masks, labels, keep_generators=self.keep_generators, drop=drop)
            for drop in (True, False)
        )
        size = mwt_size(self.model, self.masks, labels, keep_generators=self.keep_generators)
        originals = {"original_parameters": size.original_parameters, "original_flops": size.original_flops}
        return built.get_submodule("body"), costs(sliced, undropped) | originals

    def modules(self) -> Row:
        """Sizes and overlaps of the modules in parameters of the plain network, and MwT's own measure."""
        sliced, undropped = (
            {label: mwt_plan(self.model, self.masks, [label], drop=drop) for label in self.model.labels}
            for drop in (True, False)
        )
        return measured_modules(sliced, undropped) | {"kernel_retention": kernel_retention(self.masks)}


class FineTunedComposer(MwtComposer):
    """Composes with MwT's new head and fine-tunes all of it on the classes' training images.

    Args:
        run: the model.
        masks: its modules at MwT's τ.
        dataset: whose training images are learnt; a part of them chooses the epoch.
        seed: of the fine-tuning.
        device: where.
    """

    form = "fine-tuned"

    def __init__(self, run: MwtRun, masks: ModuleMasks, dataset: Dataset, *, seed: int, device: str = "cpu") -> None:
        super().__init__(run, masks, device=device)
        self.dataset, self.spec = dataset, FineTuningSpec(seed=seed)
        self.identity["tuning"] = self.spec.digest()[:8]

    def composed(self, task: Subtask) -> tuple[nn.Module, Row]:
        """One fine-tuned model, and what it keeps with its head."""
        labels = [self.model.labels[position] for position in task]
        tuned = reuse_fine_tuned(
            self.model,
            self.masks,
            labels,
            self.dataset.train,
            self.spec,
            mirror=self.dataset.mirror,
            device=self.device,
        )
        size = mwt_size(self.model, self.masks, labels, head=True)
        row = {
            "kept_parameters": size.kept_parameters,
            "kept_flops": size.kept_flops,
            "original_parameters": size.original_parameters,
            "original_flops": size.original_flops,
            "epoch": tuned.epoch,
        }
        return tuned.network.get_submodule("body"), row

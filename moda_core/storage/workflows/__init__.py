"""What jobs do, and what ``--local`` does without them: registry in, digests of manifests out."""

from moda_core.storage.workflows.control import Control
from moda_core.storage.workflows.decomposing import decompose
from moda_core.storage.workflows.evaluating import evaluate
from moda_core.storage.workflows.importing import import_dataset, store_dataset
from moda_core.storage.workflows.replacing import replace
from moda_core.storage.workflows.training import train

__all__ = ["Control", "decompose", "evaluate", "import_dataset", "replace", "store_dataset", "train"]

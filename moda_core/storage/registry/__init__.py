"""The registry on an object store: the one place that knows obstore."""

from moda_core.storage.registry.objects import Objects
from moda_core.storage.registry.registry import Registry, Resolved
from moda_core.storage.registry.versions import Alias, Version

__all__ = ["Alias", "Objects", "Registry", "Resolved", "Version"]

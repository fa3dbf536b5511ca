"""Recipes of composed models, and the files derived from them.

compositions/<id>/recipe.json           what was asked; the id is its SHA-256
compositions/<id>/file.json             digest and length of the derived file, once someone fetched it
compositions/<id>/file-<format>.json    the same in another format
"""

from __future__ import annotations

from contextlib import suppress

from moda_core.errors import Corrupt, InvalidInput, NotFound
from moda_core.storage.formats import FileFormat
from moda_core.storage.manifests import BlobRef, Composition
from moda_core.storage.references import is_digest
from moda_core.storage.registry.derived import derived_file, derived_key, put_derived_file
from moda_core.storage.registry.objects import Objects
from moda_core.storage.registry.records import create_record, read_record

__all__ = ["Compositions"]


class Compositions:
    """The compositions of a store."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def put(self, recipe: Composition) -> str:
        """Store a recipe under its id, which it returns."""
        create_record(self._objects, _recipe_key(recipe.id), recipe.to_json())
        return recipe.id

    def get(self, composition_id: str) -> Composition:
        """A recipe by its id.

        Raises:
            NotFound: without it.
            Corrupt: when what is stored has another id.
        """
        key, fields = _recipe_key(composition_id), {"format", "model", "classes", "threshold"}
        try:
            recipe = Composition.from_json(read_record(self._objects, key, fields))
        except NotFound as error:
            raise NotFound("composition", composition_id, "compose the classes to get an id") from error
        except (InvalidInput, TypeError) as error:
            raise Corrupt(f"the recipe of composition {composition_id} is none", "compose it again") from error
        if recipe.id != composition_id:
            raise Corrupt(f"the recipe of composition {composition_id} has another id", "compose it again")
        return recipe

    def all(self) -> list[Composition]:
        """All recipes, by id; a folder without one, where only a file was kept, is passed over."""
        found = []
        for composition_id in filter(is_digest, self._objects.folders("compositions")):
            with suppress(NotFound):
                found.append(self.get(composition_id))
        return found

    def put_file(self, composition_id: str, blob: BlobRef, file_format: FileFormat = "safetensors") -> BlobRef:
        """Name the derived file of a format; returns the one that holds, which is the first named."""
        return put_derived_file(self._objects, _file_key(composition_id, file_format), blob)

    def file(self, composition_id: str, file_format: FileFormat = "safetensors") -> BlobRef | None:
        """The derived file of a format, if there is one yet."""
        return derived_file(self._objects, _file_key(composition_id, file_format))


def _recipe_key(composition_id: str) -> str:
    return f"{_folder(composition_id)}/recipe.json"


def _file_key(composition_id: str, file_format: FileFormat) -> str:
    return derived_key(f"{_folder(composition_id)}/file", file_format)


def _folder(composition_id: str) -> str:
    if not is_digest(composition_id):
        raise NotFound("composition", composition_id, "an id has 64 hexadecimal digits")
    return f"compositions/{composition_id}"

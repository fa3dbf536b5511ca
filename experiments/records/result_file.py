"""Result files: one JSON object per line, on the disk before the next measurement begins.

A run that was stopped while it wrote leaves a torn last line. Who reads says so and leaves it out; the next run that
writes drops it and measures that row again. A broken line anywhere else was not torn by a stop and is refused.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from moda_core.errors import UnreadableFile
from moda_core.files import parse_json, storing
from moda_core.specs import canonical_json, sha256

__all__ = ["ResultFile", "Row"]

Row = dict[str, Any]


class ResultFile:
    """The raw results of one question, read once and appended to.

    Several programs may append to one file: each row is written whole, under a lock.

    Raises:
        UnreadableFile: for a broken line before the last one, with its number.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = _parsed(path)
        self._conditions: Row | None = None
        self._stated = {row["id"] for row in self._rows if row.get("kind") == "conditions"}
        self._checked = False

    def rows(self) -> list[Row]:
        """All rows, those of conditions included."""
        return list(self._rows)

    def measured(self) -> list[Row]:
        """All rows but those of conditions."""
        return [row for row in self._rows if row.get("kind") != "conditions"]

    def has(self, **keys: Any) -> bool:
        """Whether a row has all these values."""
        return any(all(row.get(key) == value for key, value in keys.items()) for row in self._rows)

    def begin(self, conditions: Mapping[str, Any]) -> str:
        """State what the next rows are measured under; written before the first of them, if there is one.

        Returns:
            The id that every row will carry as ``conditions``.
        """
        identity = sha256(canonical_json(dict(conditions)))[:8]
        self._conditions = {"kind": "conditions", "id": identity, **conditions}
        return identity

    def append(self, row: Row) -> Row:
        """Add a row; it is on the disk on return.

        Returns:
            The row as written, with the id of its conditions.
        """
        return self.extend([row])[0]

    def extend(self, rows: Iterable[Row]) -> list[Row]:
        """Add rows, all at once; returned as `append` does."""
        added = [self._under_conditions(row) for row in rows]
        self._store(added, [])
        return added

    def adopt(self, rows: Iterable[Row], source: ResultFile, *, own: Iterable[Row] = ()) -> None:
        """Add rows that were measured for another file, under the conditions that it states, with `own` ones all at once."""
        added = [*rows, *map(self._under_conditions, own)]
        self._store(added, [row for row in source.rows() if row.get("kind") == "conditions"])

    def _store(self, rows: Sequence[Row], known: Sequence[Row]) -> None:
        """Write rows, and before them what they were measured under, where the file does not state it."""
        if not rows:
            return
        lacking = {row["conditions"] for row in rows if "conditions" in row} - self._stated
        own = [] if self._conditions is None else [self._conditions]
        conditions = {row["id"]: row for row in (*known, *own) if row["id"] in lacking}
        stored = [*conditions.values(), *rows]
        lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in stored).encode()
        _write(self.path, lines, checked=self._checked)
        self._checked = True
        self._stated |= set(conditions)
        self._rows += stored

    def _under_conditions(self, row: Row) -> Row:
        return row if self._conditions is None else {"conditions": self._conditions["id"], **row}


def _parsed(path: Path) -> list[Row]:
    """The rows of a file; a torn last line is left out, and said so."""
    if not path.exists():
        return []
    with storing(path):
        content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    rows = []
    for number, line in enumerate(lines, start=1):
        row = _row(line)
        if row is not None:
            rows.append(row)
        elif number == len(lines):
            print(f"{path}: line {number} was torn by a stop: it is left out", file=sys.stderr)
        else:
            problem = f"line {number} of {path} is not a JSON object"
            raise UnreadableFile("results", line.decode(errors="replace"), problem, "mend it or delete the line")
    return rows


def _row(line: bytes) -> Row | None:
    """The object of a whole line; None for any other."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _write(path: Path, lines: bytes, *, checked: bool) -> None:
    """Append whole lines after the last whole one, and wait for the disk; once checked, a line that ends is whole."""
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not (checked and _ends(file)):
                _drop_torn(path, file)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())


def _ends(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _drop_torn(path: Path, file: BinaryIO) -> None:
    file.seek(0)
    content = file.read()
    last = content[content.rfind(b"\n", 0, -1) + 1 :]
    if last and _row(last) is None:
        file.truncate(len(content) - len(last))
        print(f"{path}: the last line, torn by a stop, is dropped", file=sys.stderr)

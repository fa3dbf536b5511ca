"""Result files: what was written is there, what was torn is dropped, what is broken is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.records.result_file import ResultFile
from moda_core.errors import UnreadableFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results" / "rq1.jsonl"


def test_rows_are_there_for_the_next_run_in_their_order(path: Path) -> None:
    file = ResultFile(path)
    file.append({"seed": 0, "approach": "ST"})
    file.extend([{"seed": 1, "approach": "ST"}, {"seed": 0, "approach": "MODA"}])
    assert ResultFile(path).rows() == file.rows()
    assert [row["seed"] for row in file.rows()] == [0, 1, 0]


def test_a_row_is_found_by_all_of_its_keys(path: Path) -> None:
    file = ResultFile(path)
    file.append({"seed": 0, "approach": "ST"})
    assert file.has(seed=0, approach="ST")
    assert file.has(seed=0)
    assert not file.has(seed=1)
    assert not file.has(seed=0, approach="MODA")
    assert not ResultFile(path.with_name("other.jsonl")).has(seed=0)


@pytest.mark.parametrize("torn", [b'{"seed": 2, "appr', b'{"seed": 2}', b'{"seed":\n', b"17\n"])
def test_a_torn_last_line_is_dropped_said_so_and_gone_after_the_next_row(
    path: Path, torn: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    ResultFile(path).extend([{"seed": 0}, {"seed": 1}])
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    file = ResultFile(path)
    assert "line 3 was torn by a stop: it is left out" in capsys.readouterr().err
    assert file.rows() == [{"seed": 0}, {"seed": 1}]
    assert path.read_bytes() == whole + torn, "reading alone must not write"
    file.append({"seed": 2})
    assert path.read_bytes() == whole + b'{"seed": 2}\n'
    assert "is dropped" in capsys.readouterr().err
    assert ResultFile(path).rows() == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    assert capsys.readouterr().err == ""


def test_a_file_of_one_torn_line_starts_anew(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"kind": "cond')
    ResultFile(path).append({"seed": 0})
    assert path.read_bytes() == b'{"seed": 0}\n'


@pytest.mark.parametrize("broken", [b"{broken\n", b"\n", b"[1]\n", b'{"a": NaN}\n'])
def test_a_broken_line_elsewhere_is_refused_with_its_number(path: Path, broken: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"seed": 0}\n' + broken + b'{"seed": 1}\n')
    with pytest.raises(UnreadableFile, match=r"line 2 of .*rq1\.jsonl"):
        ResultFile(path)


def test_conditions_come_before_the_first_row_and_only_with_one(path: Path) -> None:
    file = ResultFile(path)
    identity = file.begin({"hardware": "a", "date": "today"})
    assert not path.exists()
    file.append({"seed": 0})
    file.append({"seed": 1})
    conditions, *rows = ResultFile(path).rows()
    assert conditions == {"kind": "conditions", "id": identity, "hardware": "a", "date": "today"}
    assert rows == [{"conditions": identity, "seed": 0}, {"conditions": identity, "seed": 1}]
    assert ResultFile(path).measured() == rows
    assert len(identity) == 8


def test_two_programs_may_append_to_one_file(path: Path) -> None:
    first, second = ResultFile(path), ResultFile(path)
    first.append({"seed": 0})
    second.append({"seed": 1})
    first.append({"seed": 2})
    assert [row["seed"] for row in ResultFile(path).rows()] == [0, 1, 2]


def test_a_line_that_another_program_tears_meanwhile_is_dropped(path: Path) -> None:
    file = ResultFile(path)
    file.append({"seed": 0})
    with path.open("ab") as other:
        other.write(b'{"seed": 7')
    file.append({"seed": 1})
    assert path.read_bytes() == b'{"seed": 0}\n{"seed": 1}\n'


def test_rows_are_adopted_with_the_conditions_they_were_measured_under(path: Path) -> None:
    source = ResultFile(path.with_name("source.jsonl"))
    earlier = source.begin({"date": "yesterday"})
    first = source.append({"seed": 0})
    source.begin({"date": "this morning"})
    source.append({"seed": 1})
    file = ResultFile(path)
    now = file.begin({"date": "now"})
    file.adopt([first], source)
    file.adopt([first | {"again": True}], source)
    file.append({"seed": 2})
    assert [row.get("id", row.get("seed")) for row in ResultFile(path).rows()] == [earlier, 0, 0, now, 2]
    assert [row["conditions"] for row in file.measured()] == [earlier, earlier, now]


def test_a_number_that_is_none_is_not_written(path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        ResultFile(path).append({"loss": float("nan")})
    assert not path.exists()

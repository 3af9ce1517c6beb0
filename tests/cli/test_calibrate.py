"""`fallow calibrate`: its table, files and exit status; and that the page in docs is what it makes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fallow.traces.generated import calibration
from fallow.traces.generated.calibration import Calibration, Curve, Row
from fallow_cli.cmd_calibrate import number
from fallow_cli.main import cli

DOCS = Path(__file__).parents[2] / "docs"
CURVE = Curve(
    name="x",
    unit="s",
    basis="figure 1",
    published=((0.1, 1.0), (0.9, 2.0)),
    ours=((0.1, 1.0), (0.9, 2.0)),
    differences=((0.1, 0.0), (0.9, 0.0)),
)
HOLDS = Row(name="things", quantile="p50", unit="s", basis="figure 1", published=2.0, ours=2.1)
BREAKS = Row(name="others", quantile="share", unit="", basis="text", published=0.5, ours=0.9)
BOUND = Row(name="bounds", quantile="share", unit="", basis="text", published=0.9, ours=0.99, rule="at least")


def run(*args: str) -> Result:
    result = CliRunner().invoke(cli, ["calibrate", *args], standalone_mode=False)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The rows that the command is told, to be changed by the test."""
    told = [HOLDS, BOUND]
    monkeypatch.setattr(
        calibration, "calibrate", lambda seed: Calibration(seed=seed, rows=tuple(told), curves=(CURVE,) * 5)
    )
    return told


def test_figures_that_hold_are_a_table_and_status_0(rows: list[Row], tmp_path: Path) -> None:
    result = run("--out", str(tmp_path / "new" / "folder"), "--seed", "7")
    assert result.exit_code == 0
    assert "seed 7: all 2 figures hold" in result.output
    line = next(line for line in result.output.splitlines() if line.startswith("things"))
    assert line.split() == ["things", "p50", "s", "figure", "1", "2", "2.1", "+5.0%", "10%", "yes"]
    png = (tmp_path / "new" / "folder" / "calibration.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    with (tmp_path / "new" / "folder" / "calibration.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [(r["name"], r["published"], r["ours"], r["holds"]) for r in found] == [
        ("things", "2.0", "2.1", "True"),
        ("bounds", "0.9", "0.99", "True"),
    ]
    assert [r["tolerance"] for r in found] == ["0.1", ""]


def test_a_figure_that_does_not_hold_is_named_and_status_1(rows: list[Row], tmp_path: Path) -> None:
    rows.append(BREAKS)
    result = run("--out", str(tmp_path))
    assert result.exit_code == 1
    assert "1 of 3 figures do not hold: others share" in result.output
    assert (tmp_path / "calibration.png").exists()


def test_json_is_all_that_is_printed(rows: list[Row], tmp_path: Path) -> None:
    rows.append(BREAKS)
    result = run("--json", "--out", str(tmp_path))
    assert result.exit_code == 1
    document = json.loads(result.output)
    assert (document["seed"], document["holds"]) == (1, False)
    assert document["rows"][0] == {
        "name": "things",
        "quantile": "p50",
        "unit": "s",
        "basis": "figure 1",
        "published": 2.0,
        "ours": 2.1,
        "difference": 0.05,
        "rule": "within",
        "tolerance": 0.1,
        "holds": True,
    }
    assert document["rows"][1]["tolerance"] is None


def test_a_page_gets_its_table_renewed_and_nothing_else(rows: list[Row], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Before\n<!-- table: begin -->\nlast time\n<!-- table: end -->\nafter\n")
    assert run("--out", str(tmp_path), "--page", str(page)).exit_code == 0
    text = page.read_text()
    assert text.startswith("# Before\n<!-- table: begin -->\n| figure | quantile |")
    assert text.endswith("<!-- table: end -->\nafter\n")
    assert "| things | p50 | s | figure 1 | 2 | 2.1 | +5.0% | 10% | yes |" in text
    assert "last time" not in text
    run("--out", str(tmp_path), "--page", str(page))
    assert page.read_text() == text


def test_a_page_without_the_marks_is_refused_before_anything_is_written(rows: list[Row], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# No table\n")
    result = CliRunner().invoke(cli, ["calibrate", "--out", str(tmp_path / "out"), "--page", str(page)])
    assert result.exit_code == 1
    assert "holds no table to renew" in result.output
    assert page.read_text() == "# No table\n"
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_told(rows: list[Row], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(cli, ["calibrate", "--out", str(tmp_path / "file" / "out")])
    assert result.exit_code == 1
    assert "cannot write" in result.output
    assert "--out" in result.output


@pytest.mark.parametrize(
    ("value", "text"), [(1980951, "1,980,951"), (1828.27, "1828"), (0.0111, "0.0111"), (0.000123, "0.000123")]
)
def test_numbers_are_read_at_a_glance(value: float, text: str) -> None:
    assert number(value) == text


def test_the_page_in_docs_is_what_the_command_makes(tmp_path: Path) -> None:
    """Streams of chance may differ between numpy's versions: ours may differ a little, all else may not."""
    page = tmp_path / "calibration.md"
    page.write_text((DOCS / "calibration.md").read_text())
    result = run("--out", str(tmp_path), "--page", str(page))
    assert result.exit_code == 0
    assert (DOCS / "calibration.png").stat().st_size < 200_000
    with (DOCS / "calibration.csv").open(newline="") as old, (tmp_path / "calibration.csv").open(newline="") as new:
        committed, made = list(csv.DictReader(old)), list(csv.DictReader(new))
    fixed = ("name", "quantile", "unit", "basis", "published", "rule", "tolerance", "holds")
    assert [[row[column] for column in fixed] for row in committed] == [[row[c] for c in fixed] for row in made]
    assert [float(r["ours"]) for r in committed] == pytest.approx([float(r["ours"]) for r in made], rel=0.05)
    told, renewed = ((DOCS / "calibration.md").read_text().splitlines(), page.read_text().splitlines())
    assert [line.split("|")[1:6] for line in told if "|" in line] == [
        line.split("|")[1:6] for line in renewed if "|" in line
    ]

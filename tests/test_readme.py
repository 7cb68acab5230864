"""What the documents say must be true of the tree they stand in."""

import importlib
import re
from pathlib import Path

import pytest
import yaml

from course_tools.cli import main
from course_utils import networks

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
TEXTS = [*DOCUMENTS, *sorted((ROOT / "solutions").glob("*.md"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_and_pictures_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_make_targets_and_commands_exist(path):
    text = path.read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.M)) <= targets
    for command in set(re.findall(r"(?:`|^)(?:\.venv/bin/)?course ([a-z]+)", text, re.M)):
        assert main([command, "--help"]) == 0, command


def test_the_formulas_live_where_contributing_says():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    tables = re.findall(r"^\| Section \| Function in `course_utils/(\w+)\.py` \|\n.*\n((?:\|.*\n)+)", text, re.M)
    assert len(tables) >= 3
    for module, rows in tables:
        for row in rows.splitlines():
            named = [module, *re.findall(r"`course_utils/([\w/]+)\.py`", row)]
            places = [importlib.import_module("course_utils." + name.replace("/", ".")) for name in named]
            for name in re.findall(r"`([A-Za-z_][\w.]*)(?:\([^`]*\))?`", row):
                found = [place for place in places if attribute(place, name) is not None]
                assert found, f"{name} is not in {' or '.join(named)}: {row}"


def attribute(place: object, name: str) -> object:
    """Return what "A.b" names in a module, None if there is nothing."""
    for part in name.split("."):
        place = getattr(place, part, None)
    return place


def test_conda_environment_has_the_name_in_the_readme():
    name = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["name"]
    assert f"conda activate {name}`" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.name)
def test_nothing_is_left_to_fill_in(path):
    assert not re.findall(r"RUNTIME|TODO|FIXME|XXX", path.read_text("utf-8"))


def test_every_lecture_is_in_the_table_with_its_exercises_and_points():
    readme = (ROOT / "README.md").read_text("utf-8")
    words = {7: "seven", 8: "eight", 9: "nine"}
    for source in sorted((ROOT / "solutions").glob("*.md")):
        text = source.read_text("utf-8")
        row = re.search(rf"^\|.*lectures/{source.stem}\.ipynb.*$", readme, re.M)
        points = [int(p) for p in re.findall(r"^### Exercise .*\((\d+) points?", text, re.M)]
        assert row and re.search(rf"\| {len(points)} \|", row[0])
        assert f"{words[len(points)]}, {sum(points)} points" in text
        assert f"{words[len(points)]} exercises, {sum(points)} points" in readme


@pytest.mark.parametrize("source", sorted((ROOT / "solutions").glob("*.md")), ids=lambda p: p.stem)
def test_points_in_the_headings_are_those_of_the_exercises(source):
    text = source.read_text("utf-8")
    module = re.search(r"from (course_utils\.exercises\.\w+) import check", text)[1]
    headings = dict(re.findall(r"^### Exercise (\S+) · .*\((\d+) points?", text, re.M))
    exercises = importlib.import_module(module).EXERCISES
    assert {e.id: e.points for e in exercises.values()}.items() <= {k: int(v) for k, v in headings.items()}.items()


def test_the_table_of_networks_says_what_their_cards_say():
    readme = (ROOT / "README.md").read_text("utf-8")
    for name in networks.names():
        card = networks.read_card(name)
        row = re.search(rf"^\| `{name}` \|.*$", readme, re.M)[0]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        metric, value = next(iter(card["metrics"].items()))
        assert cells[2] == f"{metric} {value}" and cells[3] == f"{card['seconds']} s"

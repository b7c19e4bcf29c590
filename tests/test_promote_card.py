"""30_promote in a real JupyterLab: a person types the phrase into the cell's box, and the live card shows fills."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from alphapanda.workspace import RunSpec, Workspace
from tests.test_card import Desk
from tests.test_notebook_client import until
from tests.test_notebooks import FOLDER, code_cells, read

pytestmark = [pytest.mark.long, pytest.mark.browser, pytest.mark.timeout(400)]
BOOK = FOLDER / "30_promote.ipynb"
PHRASE = "SB0001 TakeTurns"
LAST = "same"  # of the cells that are run here, beside the end


def sources(path: Path) -> dict[str, str]:
    """The code of a notebook's cells by their ids."""
    return {cell["id"]: "".join(cell["source"]) for cell in code_cells(read(path))}


def sha(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def test_a_phrase_typed_into_the_cell_lets_it_trade(desk: Desk, tmp_path: Path) -> None:
    code = sources(BOOK)
    place = tmp_path / "place"
    place.mkdir()
    asking = code["parameters"].replace(PHRASE, "").replace('folder: str = ""', f'folder: str = "{place}"')
    assert asking.count('""') == 1
    names = list(code)
    names = [*names[: names.index(LAST) + 1], "end"]
    number = {name: at for at, name in enumerate(names)}
    cells = [asking, *(code[name] for name in names[1:])]
    with desk.lab(cells, str(FOLDER.parent)) as it:
        for name in names[: number["promote"]]:
            it.start(number[name])
            until(lambda name=name: not it.busy(number[name]), 200)
            it.finish(number[name])
        it.start(number["promote"])
        promote = it.cell(number["promote"])
        box = promote.locator(".jp-Stdin-input")
        box.wait_for(timeout=60_000)
        assert f"type '{PHRASE}' to let it trade" in promote.locator(".jp-Stdin").inner_text()
        assert "position_notional 50,000" in promote.locator(".ap").inner_text()
        box.scroll_into_view_if_needed()
        it.picture("promote-asking", tmp_path)
        assert live(place) == [], "nothing goes live before it is typed"
        box.fill(PHRASE)
        box.press("Enter")
        it.finish(number["promote"])
        card = it.card(number["promote"])
        assert card.get_attribute("data-lane") != "paper"
        it.run(number["fills"])
        until(lambda: "₹–" not in card.inner_text())
        until(lambda: "BUY" in card.inner_text(), 20)
        card.scroll_into_view_if_needed()
        it.picture("promote-live", tmp_path)
        it.run(number["same"])

        it.page.keyboard.press("Control+s")
        saved = f"c{number['class']}"
        until(lambda: "ap-live" in it.file.read_text())
        assert sha(sources(it.file)[saved]) == sha(code["class"]), "the class cell was written once"
        modules = {
            spec.namespace: sha((Workspace(place).runs / spec.run / "strategy.py").read_bytes())
            for spec in specs(place)
        }
        assert set(modules) == {"paper", "zerodha"}
        assert len(set(modules.values())) == 1, "the very bytes"
        it.run(number["end"])
        assert it.outside == []


def specs(place: Path) -> list[RunSpec]:
    """Every run of a workspace."""
    return [RunSpec.read(folder) for folder in sorted(Workspace(place).runs.iterdir())]


def live(place: Path) -> list[str]:
    """Runs where money is."""
    return [spec.run for spec in specs(place) if spec.namespace == "zerodha"]

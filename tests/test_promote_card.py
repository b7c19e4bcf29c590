"""30_promote in a real JupyterLab: a person types the phrase into the cell's box, and the live card shows fills."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from alphapanda.workspace import RunSpec, Workspace
from tests.pages import expect
from tests.test_card import Desk
from tests.test_notebooks import FOLDER, code_cells, read

pytestmark = [pytest.mark.long, pytest.mark.browser, pytest.mark.timeout(400)]
BOOK = FOLDER / "30_promote.ipynb"
PHRASE = "SB0001 TakeTurns"
LAST = "same"  # of the cells that are run here, beside the end


def sources(book: dict[str, Any]) -> dict[str, str]:
    """The code of a notebook's cells by their ids."""
    return {cell["id"]: "".join(cell["source"]) for cell in code_cells(book)}


def sha(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def test_a_phrase_typed_into_the_cell_lets_it_trade(desk: Desk, tmp_path: Path) -> None:
    code = sources(read(BOOK))
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
            it.finish(number[name], 200_000)
        it.start(number["promote"])
        promote = it.cell(number["promote"])
        box = promote.locator(".jp-Stdin-input")
        box.wait_for(timeout=60_000)
        expect(promote.locator(".jp-Stdin")).to_contain_text(f"type '{PHRASE}' to let it trade")
        expect(promote.locator(".ap")).to_contain_text("position_notional 50,000", use_inner_text=True)
        box.scroll_into_view_if_needed()
        it.picture("promote-asking", tmp_path)
        assert live(place) == [], "nothing goes live before it is typed"
        box.fill(PHRASE)
        box.press("Enter")
        it.finish(number["promote"])
        card = it.card(number["promote"])
        expect(card).not_to_have_attribute("data-lane", "paper")
        it.run(number["fills"])
        expect(card).not_to_contain_text("₹–")
        expect(card).to_contain_text("BUY")
        card.scroll_into_view_if_needed()
        it.picture("promote-live", tmp_path)
        it.run(number["same"])

        saved = it.saved()
        assert "ap-live" in saved
        assert sha(sources(json.loads(saved))[f"c{number['class']}"]) == sha(code["class"]), (
            "the class cell was written once"
        )
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

"""``import alphapanda as ap``: the names, where they live, and how light it is."""

import importlib
import pkgutil
import subprocess
import sys
import types

import pytest

import alphapanda as ap

HEAVY = (
    *("pandas", "polars", "panel", "redis", "kiteconnect", "bokeh", "matplotlib", "rich", "pydantic"),
    *("pydantic_settings", "loky", "tqdm", "cloudpickle", "asyncio"),
)


def test_all_is_sorted_unique_and_importable() -> None:
    assert list(ap.__all__) == sorted(set(ap.__all__))
    for name in ap.__all__:
        assert getattr(ap, name) is not None


@pytest.mark.parametrize("name", sorted({*ap.__all__} - {"IST"}))  # a value
def test_every_public_name_is_what_its_module_defines(name: str) -> None:
    value = getattr(ap, name)
    assert not isinstance(value, types.ModuleType)
    module = value.__module__
    assert module.startswith("alphapanda.")
    assert getattr(importlib.import_module(module), value.__name__) is value


def test_no_module_shares_its_name_with_a_public_name() -> None:
    modules = {module.name for module in pkgutil.iter_modules(ap.__path__)}
    assert not modules & set(ap.__all__)  # importing it would put the module where the name was


def test_import_is_light() -> None:
    code = f"import alphapanda, sys; print(sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_dir_shows_the_names_and_an_unknown_one_is_named() -> None:
    assert set(ap.__all__) <= set(dir(ap))
    with pytest.raises(AttributeError, match="'alphapanda' has no attribute 'backtset'"):
        ap.backtset  # noqa: B018 - looking it up is the test
    assert ap.__version__.count(".") == 2

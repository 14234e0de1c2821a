"""The rooms of the house: imports go one way, and what is heavy loads late."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import collabdesign

ROOT = Path(collabdesign.__file__).parent
# A room imports from those before it; the sampler is for any study and imports nothing of the rest.
ROOMS = (
    *("errors", "files", "sampler", "design", "evaluate", "explore", "deliver", "detect"),
    *("pipeline", "cli"),
)
ENTRY = (ROOT / "__init__.py", ROOT / "__main__.py")
FILES = sorted(path for path in ROOT.rglob("*.py") if path not in ENTRY)


def dotted(path: Path) -> str:
    return ".".join(("collabdesign", *path.relative_to(ROOT).with_suffix("").parts))


def room_of(module: str) -> str:
    return module.split(".")[1]


def imports(path: Path) -> Iterator[str]:
    """Everything that a file imports, also late and for type checking only."""
    for node in ast.walk(ast.parse(path.read_text(), path.name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: an import names its package in full"
            assert node.module is not None
            yield from (
                f"{node.module}.{alias.name}"
                if dotted_exists(f"{node.module}.{alias.name}")
                else node.module
                for alias in node.names
            )


def dotted_exists(module: str) -> bool:
    path = ROOT.parent.joinpath(*module.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.startswith("collabdesign.")}


def test_every_file_is_in_a_room() -> None:
    assert {room_of(dotted(path)) for path in FILES} <= set(ROOMS)
    assert {"design", "evaluate", "errors"} <= {room_of(dotted(path)) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_a_room_imports_only_from_the_rooms_before_it(path: Path) -> None:
    own = ROOMS.index(room_of(dotted(path)))
    for name in ours(path):
        assert ROOMS.index(room_of(name)) <= own, f"{dotted(path)} imports {name}"


@pytest.mark.parametrize("path", [p for p in FILES if room_of(dotted(p)) == "sampler"], ids=dotted)
def test_the_sampler_knows_no_other_room(path: Path) -> None:
    assert {room_of(name) for name in ours(path)} <= {"sampler"}


@pytest.mark.parametrize("path", [p for p in FILES if room_of(dotted(p)) != "cli"], ids=dotted)
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    packages = {name.split(".")[0] for name in imports(path)}
    assert packages.isdisjoint({"click", "rich"})
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called.isdisjoint({"print", "input", "exit", "quit"})


def test_no_file_imports_itself_through_others() -> None:
    TopologicalSorter({dotted(path): ours(path) for path in FILES}).prepare()


@pytest.mark.parametrize(
    "path", [path for path in FILES if room_of(dotted(path)) in ("errors", "design")], ids=dotted
)
def test_design_names_neither_torch_nor_optuna(path: Path) -> None:
    assert {name.split(".")[0] for name in imports(path)}.isdisjoint({"torch", "optuna"})


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=dotted)
def test_the_inner_init_files_are_empty(path: Path) -> None:
    assert path.read_text() == ""


def loaded_by(*modules: str) -> set[str]:
    """The top-level packages that a fresh Python has loaded after importing the modules."""
    lines = [f"import {module}" for module in modules]
    code = "\n".join(["import sys", *lines, "print(*{m.split('.')[0] for m in sys.modules})"])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    return set(done.stdout.split())


def test_the_top_package_loads_nothing_heavy() -> None:
    heavy = {"torch", "optuna", "pydantic", "numpy", "yaml", "plotly", "jinja2", "rich"}
    assert loaded_by("collabdesign").isdisjoint(heavy)


def test_design_loads_neither_torch_nor_optuna() -> None:
    design = [dotted(path) for path in FILES if room_of(dotted(path)) == "design"]
    loaded = loaded_by(*design)
    assert "pydantic" in loaded
    assert loaded.isdisjoint({"torch", "torchvision", "optuna"})


@pytest.mark.parametrize(
    "module", ["deliver.report.page", "evaluate.data.folder", "cli.detect_cost"]
)
def test_loads_no_torch(module: str) -> None:
    assert "torch" not in loaded_by(f"collabdesign.{module}")


@pytest.mark.parametrize("name", collabdesign.__all__)
def test_every_public_name_is_there(name: str) -> None:
    home = collabdesign._HOME_OF[name]
    assert getattr(collabdesign, name) is getattr(import_module(home), name)


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'collabdesign' has no attribute 'find'"):
        collabdesign.find  # noqa: B018

"""The house of the library: imports go down its floors only, or stay inside a room."""

import ast
from pathlib import Path

import pytest

import onebasin

LIBRARY = Path(onebasin.__file__).parent
FLOORS = [  # from the ground up; rooms of one floor do not know each other
    {"errors", "seeding", "progress", "parameters"},
    {"inputs", "storage", "machine"},
    {"registry"},
    {"config"},
    {"data", "networks"},
    {"symmetry"},
    {"models"},
    {"training", "matching", "merging"},
    {"measures"},
    {"tables", "figures"},
    {"claims"},
    {"api"},
    {"command"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def rooms_that(file):
    """The rooms that a module imports from, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "onebasin":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("onebasin."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("onebasin."))


@pytest.mark.parametrize("file", sorted(LIBRARY.rglob("*.py")), ids=lambda file: str(file.relative_to(LIBRARY)))
def test_imports_go_down(file):
    room = file.relative_to(LIBRARY).parts[0].removesuffix(".py")
    if room != "__init__":
        above = {used for used in rooms_that(file) if used in FLOOR and used != room and FLOOR[used] >= FLOOR[room]}
        assert not above, f"{room} is below or beside {above}"

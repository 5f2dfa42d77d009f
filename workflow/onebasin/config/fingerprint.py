"""The fingerprint of a program: it changes when an algorithm changes, and not when a comment does.

Snakemake watches a rule's script but not the library behind it. A rule therefore carries, as a parameter, the
fingerprint of its script: a hash over the syntax trees (without comments, docstrings and layout) of the script
and of all the project's modules that it imports, directly or not. Nothing is imported to find that out.
"""

import ast
import functools
import os
from pathlib import Path

from onebasin.storage.digests import of_text

PACKAGE_FOLDER = Path(__file__).parents[1]


def fingerprint(*programs: str | Path) -> str:
    """A 16-digit hash of the given programs: paths of scripts, or module names (`onebasin.matching.ste`)."""
    files: set[Path] = set()
    waiting = [found for program in programs for found in _as_files(program)]
    while waiting:
        file = waiting.pop()
        if file not in files:
            files.add(file)
            waiting.extend(_imports(file))
    meanings = sorted(f"{file.name}:{_meaning(file)}" for file in files)
    return of_text("\n".join(meanings))[:16]


def _as_files(program: str | Path) -> list[Path]:
    path = Path(program)
    return [path.resolve()] if path.suffix == ".py" else list(_module_files(str(program)))


@functools.cache
def _module_files(name: str) -> tuple[Path, ...]:
    """The files that importing module `name` runs, if it is ours or the user's: its own and its parents' `__init__`."""
    return next((files for root in _roots() if (files := _files_below(root, name.split(".")))), ())


def _roots() -> list[Path]:
    """Where the project's modules and the user's own are; installed libraries are not part of a fingerprint."""
    own = [Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return [PACKAGE_FOLDER.parent, Path.cwd(), *own]


def _files_below(folder: Path, parts: list[str]) -> tuple[Path, ...]:
    files = []
    for part in parts:
        if (package := folder / part / "__init__.py").is_file():
            files.append(package)
        elif (module := folder / f"{part}.py").is_file():
            files.append(module)
        elif not (folder / part).is_dir():
            break  # a name inside the module found last
        folder = folder / part
    return tuple(files)


@functools.cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


@functools.cache
def _imports(file: Path) -> tuple[Path, ...]:
    found: list[Path] = []
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            folder = file.parents[node.level - 1]
            parts = node.module.split(".") if node.module else []
            found.extend(path for alias in node.names for path in _files_below(folder, [*parts, alias.name]))
            continue
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]  # the name may be a module, too
        else:
            continue
        found.extend(path for name in names for path in _module_files(name))
    return tuple(found)


@functools.cache
def _meaning(file: Path) -> str:
    tree = _tree(file)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return of_text(ast.dump(tree))

import pytest

from onebasin.config import fingerprint as module
from onebasin.config.fingerprint import fingerprint

PROGRAM = {
    "script.py": "from engine.train import fit\n\nprint(fit(2))\n",
    "engine/__init__.py": '"""An engine."""\n',
    "engine/train.py": (
        '"""Training."""\n\nfrom engine.rates import RATE\n\n\ndef fit(x):\n    """Fit x."""\n    return x * RATE\n'
    ),
    "engine/rates.py": "RATE = 0.5\n",
    "engine/lazy.py": "FACTOR = 3\n",
    "engine/unused.py": "WORD = 1\n",
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that (re)writes files of a small program and returns the fingerprint of its script."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(module, "PACKAGE_FOLDER", tmp_path / "engine")
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delenv("PYTHONPATH", raising=False)

    def write_and_take(files, *programs):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        forget()
        return fingerprint(tmp_path / "script.py", *programs)

    yield write_and_take
    forget()


def forget():
    for cached in (module._module_files, module._tree, module._imports, module._meaning):
        cached.cache_clear()


def test_a_fingerprint_has_16_hexadecimal_digits_and_is_repeatable(write):
    first = write(PROGRAM)
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert write({}) == first


@pytest.mark.parametrize(
    "text",
    [
        PROGRAM["engine/train.py"].replace("Fit x.", "Fit x, at length."),
        PROGRAM["engine/train.py"].replace('"""Training."""', '"""The training."""'),
        PROGRAM["engine/train.py"].replace('    """Fit x."""\n', ""),
        PROGRAM["engine/train.py"].replace("x * RATE", "x * RATE  # halved"),
        PROGRAM["engine/train.py"].replace("x * RATE", "(\n        x\n        * RATE\n    )"),
        PROGRAM["engine/train.py"].replace("\n\n", "\n\n\n\n"),
    ],
    ids=["docstring", "module docstring", "no docstring", "comment", "layout", "blank lines"],
)
def test_what_means_the_same_has_the_same_fingerprint(write, text):
    before = write(PROGRAM)
    assert text != PROGRAM["engine/train.py"]
    assert write({"engine/train.py": text}) == before


@pytest.mark.parametrize(
    "change",
    [
        {"script.py": PROGRAM["script.py"].replace("fit(2)", "fit(3)")},
        {"engine/train.py": PROGRAM["engine/train.py"].replace("x * RATE", "x / RATE")},
        {"engine/train.py": PROGRAM["engine/train.py"].replace("x * RATE", "'''no docstring''' and x * RATE")},
        {"engine/rates.py": "RATE = 0.25\n"},
        {"engine/__init__.py": "import sys\n"},
    ],
    ids=["script", "imported module", "string", "constant two imports away", "package"],
)
def test_a_changed_algorithm_changes_the_fingerprint(write, change):
    before = write(PROGRAM)
    assert write(change) != before


@pytest.mark.parametrize(
    "statement", ["import engine.lazy", "from engine import lazy", "from engine.lazy import FACTOR"]
)
def test_a_module_imported_inside_a_function_counts(write, statement):
    before = write(PROGRAM | {"engine/rates.py": f"def rate():\n    {statement}\n\n\nRATE = 0.5\n"})
    assert write({"engine/lazy.py": "FACTOR = 4\n"}) != before


def test_a_module_that_is_not_imported_does_not_count(write):
    before = write(PROGRAM)
    assert write({"engine/unused.py": "WORD = 2\n", "engine/lazy.py": "FACTOR = 4\n"}) == before


def test_a_module_named_beside_the_script_counts(write):
    before = write(PROGRAM, "engine.unused")
    assert before != write({})
    assert write({"engine/unused.py": "WORD = 2\n"}, "engine.unused") != before


def test_installed_libraries_do_not_count(write):
    write(PROGRAM | {"script.py": "import json\nimport torch\n"})
    assert module._imports((module.PACKAGE_FOLDER.parent / "script.py").resolve()) == ()


@pytest.mark.parametrize("root", ["working folder", "PYTHONPATH"])
def test_a_users_module_counts_with_what_it_imports(write, tmp_path, monkeypatch, root):
    folder = "elsewhere" if root == "working folder" else "mine"
    if root == "PYTHONPATH":
        monkeypatch.setenv("PYTHONPATH", f"/nowhere:{tmp_path / 'mine'}")
    files = {
        f"{folder}/mymethods/search.py": "from mymethods import knobs\n",
        f"{folder}/mymethods/knobs.py": "A = 1\n",
    }
    before = write(PROGRAM | files, "mymethods.search")
    assert before != write({})
    assert write({f"{folder}/mymethods/knobs.py": "A = 2\n"}, "mymethods.search") != before


def test_a_relative_import_counts(write):
    files = {
        "elsewhere/mine/__init__.py": "",
        "elsewhere/mine/search.py": "from .knobs import A\nfrom . import dials\n",
        "elsewhere/mine/knobs.py": "A = 1\n",
        "elsewhere/mine/dials.py": "B = 1\n",
    }
    before = write(PROGRAM | files, "mine.search")
    assert write({"elsewhere/mine/knobs.py": "A = 2\n"}, "mine.search") != before
    before = write({}, "mine.search")
    assert write({"elsewhere/mine/dials.py": "B = 2\n"}, "mine.search") != before


def test_modules_that_import_each_other_have_a_fingerprint(write):
    before = write(PROGRAM | {"engine/rates.py": "import engine.train\n\nRATE = 0.5\n"})
    assert write({"engine/rates.py": "import engine.train\n\nRATE = 1.5\n"}) != before


def test_every_module_of_the_library_that_a_search_uses_is_found():
    module_names = {file.stem for file in reachable("onebasin.matching.ste_mm")}
    assert {"ste_mm", "weight", "assignment", "cost", "apply", "spec"} <= module_names
    assert not {"figures", "tables", "claims", "merged"} & module_names


def reachable(name):
    files, waiting = set(), list(module._module_files(name))
    while waiting:
        file = waiting.pop()
        if file not in files:
            files.add(file)
            waiting.extend(module._imports(file))
    return files

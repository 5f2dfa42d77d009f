import re
import subprocess
import sys

import pytest

from onebasin.errors import OnebasinError
from onebasin.registry import KINDS, VARIABLE, entries, function_of, resolve, use

BUILTINS = [(kind, name) for kind in KINDS for name, entry in entries(kind).items() if "function" in entry]


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A function that writes a module of the user's and returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


def refusal(kind, name):
    with pytest.raises(OnebasinError) as caught:
        resolve(kind, name)
    message = str(caught.value)
    assert kind in message
    assert name in message
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize(("kind", "name"), BUILTINS)
def test_every_built_in_is_found(kind, name):
    found = resolve(kind, name)
    assert callable(found)
    module, _, attribute = function_of(kind, name).partition(":")
    assert getattr(sys.modules[module], attribute) is found


def test_a_users_callable_is_found_by_module_and_name(own_module):
    own_module("my_networks", "def tiny(width):\n    return width + 1\n")
    assert resolve("network", "my_networks:tiny")(2) == 3
    assert function_of("network", "my_networks:tiny") == "my_networks:tiny"


def test_a_built_in_can_be_named_in_full():
    assert resolve("data", "onebasin.data:digits") is resolve("data", "digits")


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_name_is_refused_with_the_known_ones(kind):
    message = refusal(kind, "unheard_of")
    assert all(name in message for name in entries(kind))
    assert "package.module:callable" in message


def test_a_module_that_does_not_exist_is_refused():
    assert "cannot import no_such_module" in refusal("network", "no_such_module:tiny")


def test_a_module_that_needs_a_missing_library_is_refused_with_the_librarys_name(own_module):
    own_module("needs_more", "import no_such_library\n\n\ndef tiny():\n    pass\n")
    assert "cannot import no_such_library" in refusal("network", "needs_more:tiny")


def test_a_callable_that_does_not_exist_is_refused():
    assert "onebasin.data has no 'cipher'" in refusal("data", "onebasin.data:cipher")


def test_something_that_cannot_be_called_is_refused(own_module):
    own_module("my_constants", "WIDTH = 3\n")
    assert "WIDTH of my_constants cannot be called" in refusal("network", "my_constants:WIDTH")


def test_a_name_without_a_module_is_refused():
    refusal("network", ":tiny")


def test_a_fault_inside_a_users_module_is_not_taken_for_a_missing_callable(own_module):
    own_module("broken", "import math\n\nmath.no_such_function\n\n\ndef tiny():\n    pass\n")
    with pytest.raises(AttributeError, match="no_such_function"):
        resolve("network", "broken:tiny")


def test_finding_where_a_built_in_is_imports_nothing(monkeypatch):
    monkeypatch.setattr("importlib.import_module", lambda name: pytest.fail(f"imported {name}"))
    assert function_of("method", "ste_mm") == "onebasin.matching.ste_mm:ste_mm"


# Entries of one's own


@pytest.fixture
def own_file(tmp_path, monkeypatch):
    """A function that writes a registry file and uses it, for the test alone."""
    monkeypatch.setenv(VARIABLE, "")

    def write(text):
        path = tmp_path / "own.toml"
        path.write_text(text)
        use([path])
        return path

    return write


def test_entries_of_ones_own_come_behind_the_built_in_ones(own_file):
    own_file('[network.mine]\nfunction = "my_networks:mine"\n[network.mine.settings]\nwidth = { type = "integer" }\n')
    assert list(entries("network"))[-1] == "mine"
    assert function_of("network", "mine") == "my_networks:mine"
    assert "mine" not in entries("data")


def test_processes_that_are_started_know_them(own_file):
    path = own_file('[method.mine]\nfunction = "my_methods:mine"\n')
    program = "from onebasin.registry import function_of; print(function_of('method', 'mine'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=path.parent)
    assert done.stdout.strip() == "my_methods:mine"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[network.mlp]\nfunction = 'a:b'", "network.mlp: there is a network of that name already"),
        ("[network.mine]\nfunction = 'mine'", 'write function = "package.module:callable"'),
        ("[network.mine]\nwidth = 3", 'write function = "package.module:callable"'),
        ("[networks.mine]\nfunction = 'a:b'", "networks: no kind of entry"),
        ("[network.mine", "not TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(own_file, text, says):
    with pytest.raises(OnebasinError, match=re.escape(says)) as caught:
        own_file(text)
    assert "own.toml" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_an_absent_file_is_refused(own_file, tmp_path):
    with pytest.raises(OnebasinError, match=r"registry: .*none\.toml: cannot be read"):
        use([tmp_path / "none.toml"])

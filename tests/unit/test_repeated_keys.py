from pathlib import Path

import pytest

from onebasin.config.repeated_keys import refuse_repeated_keys
from onebasin.errors import OnebasinError

ROOT = Path(__file__).parents[2]
SHIPPED = [
    path for folder in ("config", "workflow", "envs", "tests") for path in sorted((ROOT / folder).rglob("*.yaml"))
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "config.yaml"


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_of_the_project_has_a_key_twice(shipped):
    refuse_repeated_keys([shipped])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: a is there already, in line 1"),
        ("x:\n  - b: 1\n    c: {d: 1, d: 2}\n", "line 3: d is there already, in line 3"),
        ("a: &a {b: 1}\nc: *a\nd:\n  b: 1\n  <<: *a\n  'b': 2\n", "line 6: b is there already, in line 4"),
        ("3: a\n3: b\n", "line 2: 3 is there already, in line 1"),
    ],
)
def test_a_repeated_key_is_refused_with_both_lines(path, text, message):
    path.write_text(text)
    with pytest.raises(OnebasinError) as caught:
        refuse_repeated_keys([path])
    assert str(caught.value) == f"{path}: {message}; keep one of them"


@pytest.mark.parametrize(
    "text",
    [
        "a: {b: 1}\nc: {b: 1}\n",
        "a: &a {b: 1}\nc: {b: 2, <<: *a}\n",
        "a: &a {b: 1}\nc: &c {d: 1}\ne:\n  <<: *a\n  <<: *c\n",
        "3: a\n'3': b\n",
        "a: &a\n  b: *a\n",
        "",
        '{"a":\t1}',
    ],
)
def test_everything_else_is_accepted(path, text):
    path.write_text(text)
    refuse_repeated_keys([path])

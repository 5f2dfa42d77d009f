"""Keys that a YAML file gives twice. YAML forbids them, PyYAML takes the last one in silence."""

from collections.abc import Iterable
from pathlib import Path

import yaml

from onebasin.errors import OnebasinError

MERGE = "tag:yaml.org,2002:merge"  # "<<", which may come more than once


def refuse_repeated_keys(paths: Iterable[str | Path]) -> None:
    """Look through YAML files that were read already.

    Raises:
        OnebasinError: a mapping in one of them has a key twice.
    """
    for path in paths:
        try:
            root = yaml.compose(Path(path).read_text(encoding="utf-8"), yaml.SafeLoader)
        except yaml.YAMLError:  # JSON that is no YAML
            continue
        for key, first in _repeated(root):
            raise OnebasinError(
                f"{path}: line {key.start_mark.line + 1}: {key.value} is there already, in line "
                f"{first.start_mark.line + 1}; keep one of them"
            )


def _repeated(root: yaml.Node | None) -> Iterable[tuple[yaml.Node, yaml.Node]]:
    """Every key that is repeated, with where it was first; what an alias stands for is looked at once."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys: dict[tuple[str, str], yaml.Node] = {}
            for key, value in node.value:
                waiting.append(value)
                first = keys.setdefault((key.tag, str(key.value)), key)
                if first is not key and key.tag != MERGE:
                    yield key, first
        else:
            waiting += node.value

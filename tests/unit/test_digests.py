"""Digests of content, against hashlib; those of tensors and JSON stand in files, so they must never change."""

import hashlib

import pytest
import torch

from onebasin.storage import digests


def test_texts_and_json_are_digested_as_utf8_whatever_the_order_of_keys():
    assert digests.of_text("größer") == hashlib.sha256("größer".encode()).hexdigest()
    assert digests.of_json({"b": [1, None], "a": 0.5}) == digests.of_text('{"a": 0.5, "b": [1, null]}')
    assert digests.of_json({"a": 0.5, "b": [1, None]}) == digests.of_json({"b": [1, None], "a": 0.5})


@pytest.mark.parametrize("length", [0, 100, 3_000_000])
def test_a_file_is_digested_whole_or_as_it_was_before_its_seal(tmp_path, length):
    content = bytes(range(256)) * (length // 256 + 1)
    (tmp_path / "file").write_bytes(content)
    assert digests.of_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    unsealed = content[:7] + digests.UNSEALED.encode() + content[71:]
    assert digests.of_file(tmp_path / "file", seal=7) == hashlib.sha256(unsealed).hexdigest()


TENSORS = {
    "b": torch.tensor([[1.5, -2.0]]),
    "a": torch.tensor(3),
    "empty": torch.zeros(0, 2),
    "half": torch.ones(2).half(),
}


def test_tensors_are_digested_by_name_type_shape_and_bytes():
    known = digests.of_tensors(TENSORS)
    assert known == "87d3930d42bbc7fdf91461d01cbd64594d5ded8c51fb996c9f688843fd374dd3"
    assert digests.of_tensors(dict(reversed(TENSORS.items()))) == known
    for name, changed in {"a": torch.tensor(4), "b": TENSORS["b"].T, "half": torch.ones(2).bfloat16()}.items():
        assert digests.of_tensors({**TENSORS, name: changed}) != known

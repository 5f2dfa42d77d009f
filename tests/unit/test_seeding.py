import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from onebasin.seeding import derive_seed, generator, global_rng

PARTS = st.one_of(st.integers(), st.text(max_size=12))
KEYS = st.lists(PARTS, max_size=4).map(tuple)


def draws(stream):
    return torch.rand(4, generator=stream).tolist()


def in_words(key):
    """Equality as keys have it: 1 and "1" differ."""
    return [(type(part), part) for part in key]


@given(KEYS)
def test_equal_keys_give_equal_streams(key):
    assert draws(generator(*key)) == draws(generator(*key))


@given(KEYS, KEYS)
def test_any_change_of_a_key_gives_another_stream(one, other):
    assume(in_words(one) != in_words(other))
    assert derive_seed(*one) != derive_seed(*other)
    assert draws(generator(*one)) != draws(generator(*other))


@given(KEYS.filter(bool), st.data())
def test_a_key_without_one_of_its_parts_gives_another_stream(key, data):
    left_out = data.draw(st.integers(0, len(key) - 1))
    assert derive_seed(*key) != derive_seed(*key[:left_out], *key[left_out + 1 :])


@pytest.mark.parametrize(
    ("one", "other"),
    [((1,), ("1",)), (("ab", "c"), ("a", "bc")), ((1, 23), (12, 3)), ((0, "a"), ("a", 0)), ((), ("",)), ((1,), (-1,))],
)
def test_keys_that_look_alike_give_different_streams(one, other):
    assert derive_seed(*one) != derive_seed(*other)


@given(KEYS)
def test_a_seed_fits_into_63_bits(key):
    assert 0 <= derive_seed(*key) < 2**63


def test_a_stream_has_the_bits_it_always_had():
    assert derive_seed("data order", 3) == 1839821237942175554
    assert derive_seed() == 0xE3B0C44298FC1C14 >> 1  # the head of SHA-256 of nothing


def test_a_stream_neither_reads_nor_moves_the_global_one():
    torch.manual_seed(5)
    first = draws(generator("a"))
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), after)
    torch.manual_seed(6)
    assert draws(generator("a")) == first


def test_the_global_stream_is_seeded_by_the_key_and_restored():
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    torch.manual_seed(5)
    with global_rng("network", 1):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), undisturbed)
    with global_rng("network", 1):
        assert torch.equal(torch.rand(3), inside)
    with global_rng("network", 2):
        assert not torch.equal(torch.rand(3), inside)


def test_the_global_stream_is_restored_after_an_error():
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    torch.manual_seed(5)

    def fail_inside():
        with global_rng("network"):
            torch.rand(1)
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail_inside()
    assert torch.equal(torch.rand(3), undisturbed)

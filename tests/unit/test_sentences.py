"""Sentences of a known entropy rate, and the perplexity that is held against it."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

from onebasin.data import load_data, make_data, save_data
from onebasin.data.sentences import Grammar, grammar, sentences, vocabulary
from onebasin.tables.collect import check


def derived(language, symbol, draws):
    """The words of a random derivation, and the logarithm of its probability."""
    if symbol not in language.rules:
        return [symbol], 0.0
    alternatives = language.rules[symbol]
    chosen = draws.choice(len(alternatives), p=[probability for probability, _ in alternatives])
    probability, symbols = alternatives[chosen]
    parts = [derived(language, one, draws) for one in symbols]
    return [word for words, _ in parts for word in words], math.log(probability) + sum(part for _, part in parts)


def test_the_entropy_rate_is_that_of_a_long_sample():
    language, draws = grammar(0), np.random.default_rng(1)
    sample = [derived(language, "sentence", draws) for _ in range(5000)]
    words = sum(len(own) for own, _ in sample)
    surprise = np.array([-logarithm for _, logarithm in sample])
    rate = surprise.sum() / words
    # a standard error of a ratio of sums
    lengths = np.array([len(own) for own, _ in sample])
    error = np.sqrt(np.mean((surprise - rate * lengths) ** 2) / len(sample)) / lengths.mean()
    assert abs(rate - language.entropy_rate) < 4 * error
    assert abs(rate - language.entropy_rate) < 0.02
    assert lengths.mean() == pytest.approx(language.per_symbol({}, 1.0)["sentence"], rel=0.05)


def test_the_entropy_rate_of_a_coin_is_known():
    coin = Grammar({"sentence": [(0.5, ("heads",)), (0.5, ("tails",))]})
    assert coin.entropy_rate == pytest.approx(math.log(2))
    # a sentence of k words with probability 2^-k: two bits in two words
    counting = Grammar({"sentence": [(0.5, ("one",)), (0.5, ("more", "sentence"))]})
    assert counting.entropy_rate == pytest.approx(math.log(2))


def test_no_sentence_has_two_derivations():
    """What a symbol becomes shows in the first word: no two alternatives can begin alike, and nothing can end early."""
    language = grammar(0)

    def first(symbols):
        for symbol in symbols:
            if symbol not in language.rules:
                return {symbol}
            found = set().union(*(first(own) for _, own in language.rules[symbol]))
            if () not in [own for _, own in language.rules[symbol]]:
                return found
        return set()

    for name, alternatives in language.rules.items():
        beginnings = [first(symbols) for _, symbols in alternatives]
        for one, other in itertools.combinations(beginnings, 2):
            assert not one & other, name
        assert sum(probability for probability, _ in alternatives) == pytest.approx(1)
    tails = first(("preposition",)) | first(("that",))
    predicates = first(("singular predicate",)) | first(("plural predicate",)) | {"stop 0"}
    assert not tails & predicates


def test_subjects_agree_with_verbs_over_what_is_in_between():
    language, draws = grammar(0), np.random.default_rng(2)
    far = 0
    for _ in range(300):
        words = list(language.sentence(draws))
        number = words[0].split()[0]
        heads = [word for word in words if word.split()[0] in ("singular", "plural")]
        far += len({word.split()[0] for word in heads}) > 1
        assert words[-1] == "stop 0"
        assert number in ("singular", "plural")
    assert far > 100  # both numbers in one sentence


def test_the_text_is_cut_into_pieces_that_do_not_overlap():
    data = sentences(train=50, test=10, context=8, seed=3)
    assert data.train.inputs.shape == data.train.targets.shape == (50, 8)
    assert torch.equal(data.train.inputs[:, 1:], data.train.targets[:, :-1])
    assert data.classes == len(vocabulary(grammar(3)))
    assert int(data.train.inputs.max()) < data.classes
    again = sentences(train=50, test=10, context=8, seed=3)
    assert torch.equal(again.test.inputs, data.test.inputs)
    assert not torch.equal(sentences(50, 10, 8, seed=4).test.inputs, data.test.inputs)


def test_a_file_keeps_the_entropy_rate(tmp_path):
    data = make_data({"name": "sentences", "train": 20, "test": 5, "context": 4})
    save_data(tmp_path / "data.safetensors", data)
    assert load_data(tmp_path / "data.safetensors").entropy_rate == data.entropy_rate == grammar(0).entropy_rate
    plain = make_data({"name": "digits"})
    save_data(tmp_path / "digits.safetensors", plain)
    assert load_data(tmp_path / "digits.safetensors").entropy_rate is None


def test_perplexities_are_a_table():
    row = {"experiment": "e", "method": "naive", "count": 2, "trial": 0, "split": "test"}
    values = {"perplexity": 9.0, "parents_perplexity": 7.0, "ensemble_perplexity": 6.5, "floor": 5.6}
    accuracies = {"accuracy": 0.3, "parents_accuracy": 0.4}
    assert len(check(pd.DataFrame([{**row, **values, **accuracies}]), "perplexity")) == 1

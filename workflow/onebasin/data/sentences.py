"""A language that is drawn, and whose entropy rate is known: sentences of a small probabilistic grammar.

Subjects agree with verbs over relative clauses and prepositions in between, so that a word may depend on one far before
it. Every sentence has one derivation: the first word of what follows says which rule made it, as words of different
kinds differ. So the entropy of a sentence is that of its derivation, H, and with L words in the mean the text has H / L
nats a word: no model's loss can be lower in the long run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from onebasin.data.tokens import pieces_of
from onebasin.data.types import Data

Rules = Mapping[str, Sequence[tuple[float, tuple[str, ...]]]]
"""Of every symbol that stands for others: with which probability it becomes which symbols. Others are words."""

NUMBERS = ("singular", "plural")
# How many words there are of each kind; nouns, verbs and determiners have a number.
LEXICON = {
    "determiner": 2,
    "adjective": 6,
    "noun": 8,
    "verb": 4,
    "transitive": 6,
    "preposition": 3,
    "that": 1,
    "stop": 1,
}
WITH_NUMBER = ("determiner", "noun", "verb", "transitive")


@dataclass(frozen=True)
class Grammar:
    """A probabilistic context-free grammar that starts with `sentence`."""

    rules: Rules

    def per_symbol(self, own: Mapping[str, float], word: float) -> dict[str, float]:
        """Of every symbol the mean of a sum over its derivation: `own` a symbol that is replaced, `word` a word."""
        names = list(self.rules)
        place = {name: number for number, name in enumerate(names)}
        children = np.zeros((len(names), len(names)))
        total = np.array([own.get(name, 0.0) for name in names])
        for name, alternatives in self.rules.items():
            for probability, symbols in alternatives:
                for symbol in symbols:
                    if symbol in place:
                        children[place[name], place[symbol]] += probability
                    else:
                        total[place[name]] += probability * word
        found = np.linalg.solve(np.eye(len(names)) - children, total)
        return dict(zip(names, found.tolist(), strict=True))

    @property
    def entropy_rate(self) -> float:
        """Nats a word of sentences that follow one another independently: entropy of one over its mean length."""
        choices = {
            name: -sum(p * np.log(p) for p, _ in alternatives if p > 0) for name, alternatives in self.rules.items()
        }
        return self.per_symbol(choices, 0.0)["sentence"] / self.per_symbol({}, 1.0)["sentence"]

    def sentence(self, draws: np.random.Generator) -> Iterator[str]:
        """The words of a random sentence."""
        todo = ["sentence"]
        while todo:
            symbol = todo.pop()
            if symbol not in self.rules:
                yield symbol
                continue
            alternatives = self.rules[symbol]
            chosen = draws.choice(len(alternatives), p=[probability for probability, _ in alternatives])
            todo += reversed(alternatives[chosen][1])


def grammar(seed: int) -> Grammar:
    """The grammar of a seed, which decides how often each word is used."""
    draws = np.random.default_rng([seed, 0])
    rules: dict[str, list[tuple[float, tuple[str, ...]]]] = {
        "sentence": [(0.5, (f"{number} phrase", f"{number} predicate", "stop")) for number in NUMBERS],
        "phrase": [(0.5, (f"{number} phrase",)) for number in NUMBERS],
    }
    for number in NUMBERS:
        rules[f"{number} phrase"] = [(1.0, (f"{number} determiner", f"{number} head"))]
        rules[f"{number} head"] = [
            (0.25, ("adjective", f"{number} head")),
            (0.75, (f"{number} noun", f"{number} tail")),
        ]
        rules[f"{number} tail"] = [
            (0.6, ()),
            (0.2, ("preposition", "phrase")),
            (0.2, ("that", f"{number} predicate")),
        ]
        rules[f"{number} predicate"] = [(0.4, (f"{number} verb",)), (0.6, (f"{number} transitive", "phrase"))]
    for kind, size in LEXICON.items():
        for name in [f"{number} {kind}" for number in NUMBERS] if kind in WITH_NUMBER else [kind]:
            shares = draws.dirichlet([1.0] * size)
            rules[name] = [(float(share), (f"{name} {word}",)) for word, share in enumerate(shares)]
    return Grammar(rules)


def vocabulary(language: Grammar) -> list[str]:
    """All words."""
    used = [symbol for alternatives in language.rules.values() for _, symbols in alternatives for symbol in symbols]
    return list(dict.fromkeys(symbol for symbol in used if symbol not in language.rules))


def sentences(train: int = 4000, test: int = 1000, context: int = 32, seed: int = 0) -> Data:
    """Inputs and targets `[n, context]` int64: pieces of one long text, to tell the next word at every position.

    Args:
        train, test: how many pieces; they do not overlap.
        seed: of the grammar and of the text.
    """
    language = grammar(seed)
    number = {word: token for token, word in enumerate(vocabulary(language))}
    draws = np.random.default_rng([seed, 1])
    wanted = (train + test) * (context + 1)
    text: list[int] = []
    while len(text) < wanted:
        text += [number[word] for word in language.sentence(draws)]
    pieces = torch.tensor(text[:wanted], dtype=torch.int64).view(-1, context + 1)
    splits = pieces_of(pieces[:train]), pieces_of(pieces[train:])
    return Data(*splits, len(number), entropy_rate=language.entropy_rate)

"""What `trace` and `check` share: a network by name, its symmetries, and the line that sums them up."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from onebasin import api
from onebasin.command.options import read_inputs
from onebasin.models.canonical import prove_canonical
from onebasin.networks.canonical import canonical
from onebasin.networks.named import make_network
from onebasin.seeding import generator
from onebasin.symmetry.check import prove
from onebasin.symmetry.spec import Spec
from onebasin.symmetry.summary import moving_share
from onebasin.symmetry.trace import trace


class Traced:
    """A network and what may be permuted in it."""

    def __init__(self, network: str, inputs: Sequence[Any], classes: int, in_canonical_form: bool = False) -> None:
        """The network of that name, for inputs as `--input` has them."""
        shape, kind = read_inputs(inputs)
        self._module = make_network(network, shape, classes)
        self._example = api.example(self._module, shape, kind)
        if in_canonical_form:
            prove_canonical(self._module, self._example)
            self._module = canonical(self._module)

    @cached_property
    def spec(self) -> Spec:
        """Its groups."""
        return trace(self._module, self._example)

    def summary(self) -> str:
        """Groups, units, the share of the parameters that move, the largest change of an output, and the precision.

        Raises:
            OnebasinError: permuting changes the function.
        """
        groups, share = self.spec.groups, moving_share(self._module, self.spec)
        number, units = len(groups), sum(group.units for group in groups)
        counted = f"{number} group{'s' * (number != 1)}, {units:,} units, {share:.1%} of the parameters move"
        if not groups:
            return f"{counted}; nothing to prove"
        proof = prove(self._module, self.spec, self._example, generator("symmetries"))
        return f"{counted}; largest change of an output, relative: {proof.change:.1e} (in {proof.precision})"

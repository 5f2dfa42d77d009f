"""State that training updates is measured anew after averaging, whoever's layer holds it."""

import pytest
import torch
from networks_for_tests import stream
from torch import nn
from torch.nn import functional as F

import onebasin
from onebasin.data import Data, Split
from onebasin.errors import OnebasinError
from onebasin.merging.recalibration import recompute
from onebasin.merging.training_state import updated_by_training
from onebasin.models.stack import initial

INPUTS = 3 + 2 * torch.randn(1100, 4, 5, generator=stream("inputs"))
BATCHES = INPUTS.split(550)


class OwnNorm(nn.Module):
    """A BatchNorm of one's own; `rebinds` its buffers instead of writing into them."""

    def __init__(self, momentum=0.1, rebinds=False):
        super().__init__()
        self.momentum, self.rebinds = momentum, rebinds
        self.register_buffer("shift", torch.zeros(4))
        self.register_buffer("scale", torch.ones(4))
        self.register_buffer("constant", torch.ones(4))

    def forward(self, inputs):
        if not self.rebinds:
            return F.batch_norm(inputs, self.shift, self.scale, training=self.training, momentum=self.momentum)
        if self.training:
            self.shift = (1 - self.momentum) * self.shift + self.momentum * inputs.mean(dim=(0, 2))
            self.scale = (1 - self.momentum) * self.scale + self.momentum * inputs.var(dim=(0, 2))
        return F.batch_norm(inputs, self.shift, self.scale)


@pytest.mark.parametrize("rebinds", [False, True])
@pytest.mark.parametrize("momentum", [0.1, 0.02])
def test_a_norm_of_ones_own_has_the_statistics_of_the_data(rebinds, momentum):
    network = nn.Sequential(OwnNorm(momentum, rebinds))
    before = initial(network)
    assert updated_by_training(network, before, INPUTS[:2]) == ["0.shift", "0.scale"]
    found = recompute(network, before, BATCHES)
    torch.testing.assert_close(found["0.shift"], INPUTS.mean(dim=(0, 2)), atol=0.02, rtol=0)
    torch.testing.assert_close(found["0.scale"], INPUTS.var(dim=(0, 2)), atol=0, rtol=0.02)
    assert torch.equal(found["0.constant"], torch.ones(4))
    assert torch.equal(before["0.shift"], torch.zeros(4))  # what was given is as it was


def test_instance_norms_running_statistics_are_cumulative_averages():
    network = nn.Sequential(nn.InstanceNorm1d(4, track_running_stats=True))
    found = recompute(network, initial(network), BATCHES)
    torch.testing.assert_close(found["0.running_mean"], INPUTS.mean(dim=(0, 2)), atol=1e-4, rtol=0)
    torch.testing.assert_close(found["0.running_var"], INPUTS.var(dim=2).mean(dim=0), atol=0, rtol=1e-3)
    assert network[0].momentum == 0.1


def test_state_that_does_not_settle_is_refused():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("total", torch.zeros(()))

        def forward(self, inputs):
            if self.training:
                self.total += inputs.mean()
            return inputs

    network = nn.Sequential(Counting())
    with pytest.raises(OnebasinError, match=r"0.total is updated by training, and \d+ passes .* do not settle it"):
        recompute(network, initial(network), [batch[:2] for batch in BATCHES])


def test_networks_of_torchs_own_norms_or_none_have_no_such_state():
    for network in (nn.Sequential(nn.BatchNorm1d(4)), nn.Sequential(nn.Linear(5, 5), nn.LayerNorm(5))):
        assert updated_by_training(network, initial(network), INPUTS[:2], ["0"]) == []


def test_averages_of_such_networks_ask_for_data():
    def network():
        return nn.Sequential(
            nn.Conv1d(4, 4, 1), OwnNorm(), nn.ReLU(), nn.Conv1d(4, 6, 1), nn.Flatten(), nn.Linear(30, 3)
        )

    models = onebasin.stack_models([network(), network()], (4, 5))
    spec = onebasin.symmetries(models)
    found = onebasin.match(models, spec, "naive")
    with pytest.raises(OnebasinError, match="measured anew on training data after averaging; give the data"):
        onebasin.merge(models, spec, found)
    split = Split(INPUTS, torch.arange(len(INPUTS)) % 3)
    merged = onebasin.merge(models, spec, found, Data(split, split, 3))
    features = F.conv1d(INPUTS, merged["0.weight"], merged["0.bias"])
    torch.testing.assert_close(merged["1.shift"], features.mean(dim=(0, 2)), atol=0.02, rtol=0)


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
@pytest.mark.parametrize("seed", range(4))
def test_the_vectors_of_a_spectral_norm_settle_whatever_their_sign(norm, seed):
    torch.manual_seed(seed)
    network = nn.Sequential(norm(nn.Linear(5, 4)))
    before = initial(network)
    [matrix] = [tensor for name, tensor in before.items() if "orig" in name]
    found = recompute(network, before, [INPUTS[:8]])
    with torch.no_grad():
        weight = torch.func.functional_call(network, found, (torch.eye(5),), tie_weights=False) - before["0.bias"]
    torch.testing.assert_close(weight.T, matrix / torch.linalg.matrix_norm(matrix, 2), rtol=1e-4, atol=1e-5)

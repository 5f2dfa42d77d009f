"""Tensors that models do not have in common: they are the first model's, and no search sees them."""

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import onebasin
from onebasin.command import main
from onebasin.errors import OnebasinError
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import random_elements


class Net(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU())
        self.head = nn.Linear(12, classes)

    def forward(self, x):
        return self.head(self.body(x))


@pytest.fixture
def files(tmp_path):
    """A network, and a permuted copy of its body with a head for other classes."""
    torch.manual_seed(1)
    first = onebasin.stack_models([Net()], (6,))
    spec = onebasin.symmetries(first)
    permuted = onebasin.permute(first, spec, Alignment(random_elements(spec, 1, torch.Generator().manual_seed(2))))
    torch.save(first[0], tmp_path / "a.pt")
    torch.save({**permuted[0], "head.weight": torch.randn(7, 12), "head.bias": torch.randn(7)}, tmp_path / "b.pt")
    return [tmp_path / "a.pt", tmp_path / "b.pt"]


def test_bodies_are_merged_and_the_head_is_the_first_models(files):
    models = onebasin.load_models(files, Net(), (6,), skip=["head.*"])
    assert models.skipped == ("head.weight", "head.bias")
    spec = onebasin.symmetries(models)
    for method in ("weight_matching", "c2m3"):
        merged = onebasin.merge(models, spec, onebasin.match(models, spec, method))
        inputs = torch.randn(5, 6)
        before, after = (torch.func.functional_call(models.network, own, (inputs,)) for own in (models[0], merged))
        torch.testing.assert_close(after, before)  # the head goes along where the first model's units go


def test_the_head_does_not_pull_units_to_where_they_are(files):
    """All heads being the first one's, a search that saw them would take it for a reason to permute nothing."""
    models = onebasin.load_models(files, Net(), (6,), skip=["head.*"])
    models.parameters["head.weight"].mul_(1e4)
    spec = onebasin.symmetries(models)
    found = onebasin.match(models, spec)
    copies = onebasin.permute(models, spec, found)
    assert torch.equal(copies[0]["body.2.weight"], copies[1]["body.2.weight"])


def test_a_group_of_skipped_tensors_alone_stays(tmp_path):
    torch.manual_seed(0)
    networks = [
        nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)) for _ in range(2)
    ]
    for number, network in enumerate(networks):
        torch.save(network.state_dict(), tmp_path / f"{number}.pt")
    files = [tmp_path / "0.pt", tmp_path / "1.pt"]
    models = onebasin.load_models(files, networks[0], (4,), skip=["2.*", "4.*"])
    found = onebasin.match(models, onebasin.symmetries(models))
    assert found.elements["2"].tolist() == [[0, 1, 2, 3, 4]] * 2


def test_what_cannot_be_is_refused(files):
    with pytest.raises(OnebasinError, match=r"b.pt: head.bias is \(7,\), the network's is \(4,\)"):
        onebasin.load_models(files, Net(), (6,))
    with pytest.raises(OnebasinError, match=r"skip 'haed.\*': no tensor of the network is called so; nearest: head"):
        onebasin.load_models(files, Net(), (6,), skip=["haed.*"])
    models = onebasin.load_models(files, Net(), (6,), skip=["head.*"])
    data = onebasin.data.Data(*[onebasin.data.Split(torch.randn(3, 6), torch.zeros(3, dtype=torch.int64))] * 2, 4)
    with pytest.raises(OnebasinError, match="cannot be judged by their outputs"):
        onebasin.evaluate(models, models[0], data)


def test_the_command_skips_and_says_that_nothing_is_evaluated(files, tmp_path):
    output = tmp_path / "merged.safetensors"
    (tmp_path / "my_net.py").write_text("from test_skip import Net\n")
    merge = ["merge", *map(str, files), "--network", "test_skip:Net", "--input", "6", "-o", str(output)]
    assert CliRunner().invoke(main, merge).exit_code == 1
    done = CliRunner().invoke(main, [*merge, "--skip", "head.*"])
    assert f"not evaluated, as head.weight, head.bias are those of {files[0]}" in done.stdout, done.output

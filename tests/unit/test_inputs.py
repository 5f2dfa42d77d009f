"""Networks of tokens, of masks, and of several inputs by keyword."""

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import onebasin
from onebasin.command import main
from onebasin.data import Data, Split, load_data, save_data
from onebasin.errors import OnebasinError
from onebasin.inputs import Named
from onebasin.measures.sharpness.measure import Sharpness
from onebasin.networks.examples import example_for, type_taken

SHAPE = {"ids": (6,), "mask": (6,)}
TYPE = {"ids": torch.int64, "mask": torch.bool}


class Pooled(nn.Module):
    """The mean over the positions of a mask, classified; of tokens by keyword."""

    def __init__(self):
        super().__init__()
        self.table, self.hidden, self.head = nn.Embedding(11, 8), nn.Linear(8, 12), nn.Linear(12, 3)
        self.norm = nn.BatchNorm1d(12)

    def forward(self, ids, mask):
        kept = self.table(ids) * mask.unsqueeze(-1)
        return self.head(torch.relu(self.norm(self.hidden(kept.sum(1) / mask.sum(1, keepdim=True)))))


def reader():
    return nn.Sequential(nn.Embedding(11, 8), nn.Flatten(), nn.Linear(48, 12), nn.ReLU(), nn.Linear(12, 3))


def two(build=Pooled):
    networks = []
    for seed in range(2):
        torch.manual_seed(seed)
        networks.append(build())
    return networks


def sentences(count=9):
    draws = torch.Generator().manual_seed(4)

    def split():
        ids = torch.randint(11, (count, 6), generator=draws)
        lengths = torch.randint(1, 7, (count, 1), generator=draws)
        mask = torch.arange(6).expand(count, 6) < lengths
        return Split({"ids": ids, "mask": mask}, torch.randint(3, (count,), generator=draws))

    return Data(split(), split(), 3)


def test_several_inputs_go_through_everything():
    models = onebasin.stack_models(two(), SHAPE, TYPE)
    spec = onebasin.symmetries(models)
    assert [group.size for group in spec.groups] == [8, 12]
    data = sentences()
    for method in ("weight_matching", "activation_matching", "ste_mm"):
        settings = {"epochs": 1, "batch": 5} if method == "ste_mm" else {}
        merged = onebasin.merge(models, spec, onebasin.match(models, spec, method, data, **settings), data)
        found = onebasin.evaluate(models, merged, data)
    with torch.no_grad():
        models.network.load_state_dict(merged)
        logits = models.network.eval()(**data.test.inputs.tensors)
    expected = float(nn.functional.cross_entropy(logits, data.test.targets))
    assert found.set_index("split").loc["test", "loss"] == pytest.approx(expected, rel=1e-5)
    onebasin.barrier(models, data)
    with pytest.raises(OnebasinError, match="a batch of 1 is too small for the network's norms"):
        onebasin.match(models, spec, "ste_mm", data, batch=4)  # nine samples leave one


def test_one_shape_for_several_inputs_is_refused_with_their_names():
    line = (
        r"Pooled takes the inputs ids, mask; give the shape of each by its name \(--input ids=SIZES --input mask=SIZES"
    )
    with pytest.raises(OnebasinError, match=line):
        onebasin.trace(two()[0], (6,))
    with pytest.raises(OnebasinError, match="sharpness takes networks of one input; this one has ids, mask"):
        Sharpness(two()[0], sentences().test, 2)


def test_that_a_network_takes_tokens_is_found_out():
    assert type_taken(reader(), (6,), "cpu") == torch.int64
    assert type_taken(nn.Linear(6, 2), (6,), "cpu") == torch.float32
    models = onebasin.stack_models(two(reader), (6,))
    assert models.input_type == torch.int64
    assert [group.size for group in onebasin.symmetries(models).groups] == [8, 12]


def test_examples_are_of_their_type():
    network = Pooled()
    example = example_for(network, SHAPE, TYPE, "cpu")
    assert example.tensors["mask"].all()
    assert example.tensors["ids"].unique().numel() > 1
    assert example_for(nn.Linear(4, 2).double(), (4,), torch.float32, "cpu").dtype == torch.float64


def test_several_inputs_are_cut_as_one_is():
    inputs = sentences(7).train.inputs
    assert len(inputs) == 7
    for pieces in (inputs.split(3), inputs.tensor_split(3)):
        assert [len(piece) for piece in pieces] == [3, 3, 1] if pieces[1:] and len(pieces[1]) == 3 else [3, 2, 2]
        rebuilt = Named({name: torch.cat([piece.tensors[name] for piece in pieces]) for name in inputs.tensors})
        assert all(torch.equal(rebuilt.tensors[name], inputs.tensors[name]) for name in inputs.tensors)
    assert torch.equal(inputs[2:4].tensors["ids"], inputs.tensors["ids"][2:4])


def test_a_file_keeps_several_inputs(tmp_path):
    data = sentences()
    save_data(tmp_path / "data.safetensors", data)
    found = load_data(tmp_path / "data.safetensors")
    assert found.input_shape == SHAPE
    assert found.input_type == TYPE
    assert all(torch.equal(found.test.inputs.tensors[name], data.test.inputs.tensors[name]) for name in SHAPE)


def test_unequal_numbers_of_inputs_and_targets_are_refused():
    data = Data(Split(torch.randn(4, 2), torch.zeros(5, dtype=torch.int64)), sentences().test, 3)
    assert "4 train inputs for 5 targets" in data.fault


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["3,32", "4"], "several inputs need a name each"),
        (["a=3", "a=4"], "several inputs need a name each"),
        (["int33:4"], "'int33' is no type of inputs; known: float32"),
        (["a b=4"], "'a b' is no name of an input"),
        (["ids=int64:zero"], "'zero' is no shape; write the sizes of one input, as in 3,32,32"),
    ],
)
def test_inputs_that_say_nothing_are_refused(given, line):
    done = CliRunner().invoke(main, ["trace", "mlp", *[part for one in given for part in ("--input", one)]])
    assert line in done.stderr
    assert done.exit_code == 2


def test_the_command_names_inputs(tmp_path, monkeypatch):
    (tmp_path / "my_pooled.py").write_text("from test_inputs import Pooled\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    inputs = ["--input", "ids=int64:6", "--input", "mask=bool:6"]
    done = CliRunner().invoke(main, ["check", "my_pooled:Pooled", *inputs])
    assert "2 groups, 20 units, " in done.stdout, done.output
    paths = [tmp_path / f"{number}.pt" for number in (0, 1)]
    for path, network in zip(paths, two(), strict=True):
        torch.save(network.state_dict(), path)
    output = tmp_path / "merged.safetensors"
    merge = ["merge", *map(str, paths), "--network", "my_pooled:Pooled", "--normalization", "none", "-o", str(output)]
    done = CliRunner().invoke(main, [*merge, *inputs])
    assert done.exit_code == 0, done.output
    copy = [
        "permute",
        str(paths[0]),
        "--network",
        "my_pooled:Pooled",
        "--random",
        "1",
        "-o",
        str(tmp_path / "c.safetensors"),
    ]
    assert CliRunner().invoke(main, [*copy, *inputs]).exit_code == 0
    again = [str(tmp_path / "c.safetensors"), str(tmp_path / "c.safetensors"), "--network", "my_pooled:Pooled"]
    done = CliRunner().invoke(main, ["match", *again, "-o", str(output)])  # the copy says its inputs
    assert done.exit_code == 0, done.output


class Sum(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.body, self.scale = nn.Linear(6, 3), scale

    def forward(self, a, b):
        return self.body(a + self.scale * b)


def test_several_inputs_of_numbers_need_no_type_and_pixels_among_them_are_scaled():
    draws = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (7, 6), generator=draws, dtype=torch.uint8)
    split = Split({"a": torch.randn(7, 6, generator=draws), "b": pixels}, torch.arange(7) % 3)
    data = Data(split, split, 3).to("cpu")
    assert torch.equal(data.train.inputs.tensors["b"], pixels / 255)
    models = onebasin.stack_models([Sum(), Sum()], {"a": (6,), "b": (6,)})
    assert onebasin.evaluate(models, models[0], data)["loss"].notna().all()


def test_every_module_is_held_against_the_first_one():
    class Odd(Sum):
        def forward(self, a, b):
            return super().forward(a, b)[:, :2]

    shape = {"a": (6,), "b": (6,)}
    with pytest.raises(OnebasinError, match="model 1 differs from model 0"):
        onebasin.stack_models([Sum(), Odd()], shape)
    with pytest.raises(OnebasinError, match="model 2 differs from model 0"):
        onebasin.stack_models([Sum(), Sum(), Sum(scale=2.0)], shape)

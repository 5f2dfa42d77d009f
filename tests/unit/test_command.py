"""The console command: what it says, writes and refuses."""

import os
import resource
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from networks_for_tests import few_digits, same, spec_of, trained_mlps

import onebasin
from onebasin.command import SUBCOMMANDS, main
from onebasin.data import save_data
from onebasin.errors import OnebasinError
from onebasin.models.checkpoints import save_model
from onebasin.storage import artifacts
from onebasin.symmetry.spec import load_spec
from onebasin.training.run import train

NETWORK = ["--network", "mlp:width=24", "--input", "1,8,8", "--classes", "10"]


@pytest.fixture(autouse=True)
def _as_before():
    """A command sets torch and the path of modules up for a process of its own."""
    path, mode = list(sys.path), torch.get_deterministic_debug_mode()
    yield
    sys.path[:] = path
    torch.set_deterministic_debug_mode(mode)


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """A folder with three trained models as artifacts and as PyTorch files, and their data."""
    folder, models = tmp_path_factory.mktemp("models"), trained_mlps()
    for number in range(3):
        save_model(folder / f"{number}.safetensors", models, number, 10, {"network": {"name": "mlp", "width": 24}})
        torch.save(models[number], folder / f"{number}.pt")
    save_data(folder / "data.safetensors", few_digits())
    return folder


@pytest.fixture
def folder(originals, tmp_path, monkeypatch):
    """A copy of it, as the working folder."""
    shutil.copytree(originals, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments, status=0):
    """What the command says on stdout and on stderr, split into lines."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="onebasin")
    assert done.exit_code == status, done.output
    return done.stdout.splitlines(), done.stderr.splitlines()


def refused(*arguments):
    """The one line by which it refuses; usage errors name the help above it."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="onebasin")
    assert done.exit_code not in (0, None)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    *above, line = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert not [other for other in above if other and not other.startswith(("Usage:", "Try "))]
    assert done.stdout == ""
    return line


def untouched(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("command", [[], *([name] for name in SUBCOMMANDS)])
def test_help_has_an_example(command):
    text = "\n".join(run(*command, "--help")[0])
    assert f"onebasin {command[0] if command else 'match'} " in text.partition("Options:")[0].partition("\n")[2]


def test_help_comes_at_once_and_without_torch():
    program = "import sys; from onebasin.command import main; main(['merge', '--help'], standalone_mode=False)"
    program += "; sys.exit(bool({'torch', 'numpy', 'pandas'} & set(sys.modules)))"
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 0.5  # the processor's; machines are busy


def test_the_entry_point_is_the_command():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert EntryPoint("onebasin", project["scripts"]["onebasin"], "console_scripts").load() is main


def test_trace_lists_groups_and_what_stays(folder):
    out, _ = run("trace", "mlp:width=6,depth=1", "--input", "1,2,2", "-o", "symmetries.json")
    assert out[1].split() == ["1", "6", "permutation", "3"]
    assert any(line.split(maxsplit=1) == ["2", "output of the network"] for line in out)
    out, _ = run("trace", "mlp:width=6,depth=1", "--input", "1,2,2", "--verbose")
    assert out[1].split() == ["1", "6", "permutation", "1.weight[0],", "1.bias[0],", "3.weight[1]"]
    assert any("3.bias[0]" in line and "output of the network" in line for line in out)
    assert load_spec("symmetries.json").groups[0].size == 6


def test_check_says_how_far_the_output_moved(folder):
    out, _ = run("check", "mlp:width=6", "--input", "1x2x2")
    assert "function preserved" in out[0]
    assert "3 groups, 18 units" in out[1]
    assert float(out[1].split("relative: ")[1].split()[0]) < 1e-9


def test_match_writes_what_the_library_finds(folder):
    run("match", "0.safetensors", "1.safetensors", "2.safetensors", "--set", "max_rounds=3", "-o", "p.safetensors")
    found = artifacts.load("p.safetensors", "permutations")
    models = trained_mlps()
    expected = onebasin.match(models, spec_of(models), max_rounds=3)
    assert same(found.tensors, expected.elements)
    assert found.facts["models"] == [0, 1, 2]
    assert found.facts["settings"] == {"max_rounds": 3, "first_sweep": "signal"}
    assert "checksums" not in found.facts


def test_state_dicts_give_the_same_as_artifacts_and_are_known_by_their_checksums(folder):
    run("match", "0.safetensors", "1.safetensors", "-o", "p.safetensors")
    run("match", "0.pt", "1.pt", *NETWORK, "-o", "q.safetensors")
    p, q = (artifacts.load(name, "permutations") for name in ("p.safetensors", "q.safetensors"))
    assert same(p.tensors, q.tensors)
    assert len(set(q.facts["checksums"])) == 2


def test_merge_writes_the_average_and_says_how_good_it_is(folder):
    out, _ = run(
        "merge",
        "0.pt",
        "1.pt",
        "2.pt",
        "--network",
        "mlp:width=24",
        "--data",
        "data.safetensors",
        "-o",
        "m.safetensors",
    )
    models, spec = trained_mlps(), spec_of(trained_mlps())
    merged = onebasin.merge(models, spec, onebasin.match(models, spec))
    assert same(safetensors.torch.load_file("m.safetensors"), merged)
    test = onebasin.evaluate(models, merged, few_digits()).set_index("split").loc["test"]
    for line, prefix in zip(out[-3:], ("", "parents_", "ensemble_"), strict=True):
        assert line.split()[-2:] == [f"{test[f'{prefix}loss']:.4f}", f"{100 * test[f'{prefix}accuracy']:.2f}"]


def test_merging_with_permutations_is_merging_with_the_search_that_found_them(folder):
    models = ["0.safetensors", "1.safetensors", "2.safetensors"]
    search = ["--method", "ste_mm", "--set", "epochs=1", "--data", "data.safetensors", "--trial", "4"]
    run("match", *models, *search, "-o", "p.safetensors")
    run("merge", *models, *search, "-o", "a.safetensors")
    run("merge", *models, "--permutations", "p.safetensors", "-o", "b.safetensors")
    assert (folder / "a.safetensors").read_bytes() == (folder / "b.safetensors").read_bytes()


def test_barrier_writes_curves_barriers_and_a_picture(folder):
    out, _ = run("barrier", "0.pt", "1.pt", "2.pt", *NETWORK, "--data", "data.safetensors", "--points", "3", "-o", "b")
    curves, barriers = (pd.read_csv(f"b/{name}.csv") for name in ("interpolation", "pairwise"))
    assert set(curves["method"]) == {"naive", "weight_matching"}
    assert len(curves) == 2 * 2 * 3 * 3
    test = barriers[barriers["split"] == "test"].groupby("method")["barrier_loss"].mean()
    assert test["weight_matching"] < test["naive"]
    assert f"{test['naive']:.4f}" in "\n".join(out)
    assert (folder / "b" / "interpolation.png").read_bytes().startswith(b"\x89PNG")


def test_sharpness_is_measured_at_every_model(folder):
    data = ["--data", "data.safetensors", "--probes", "2", "--images", "20"]
    out, _ = run("sharpness", "0.pt", "1.pt", *NETWORK, *data, "-o", "s.csv")
    table = pd.read_csv("s.csv")
    assert table["model"].tolist() == ["0.pt"] * 3 + ["1.pt"] * 3
    assert table["estimator"].tolist() == ["trace", "scaled_trace", "top_eigenvalue"] * 2
    assert f"{table['value'][0]:.5g}" in out[1]


@pytest.mark.parametrize("source", ["1.safetensors", "1.pt"])
def test_a_permuted_copy_is_in_the_order_that_was_found_for_it(folder, source):
    network = [] if source.endswith("safetensors") else NETWORK
    first = source.replace("1", "0")
    run("match", first, source, *network, "-o", "p.safetensors")
    run("permute", source, *network, "--permutations", "p.safetensors", "-o", "copy.safetensors")
    models = trained_mlps().first(2)
    permuted = onebasin.permute(models, spec_of(models), onebasin.match(models, spec_of(models)))
    assert same(artifacts.load("copy.safetensors", "model").tensors, permuted[1])


def test_a_random_copy_computes_the_same_in_another_order(folder):
    run("permute", "0.safetensors", "--random", "7", "-o", "copy.safetensors")
    copy, original = onebasin.load_models(["copy.safetensors"]), trained_mlps()
    assert not torch.equal(copy[0]["1.weight"], original[0]["1.weight"])
    images = few_digits().test.inputs
    original.network.load_state_dict(original[0])
    copy.network.load_state_dict(copy[0])
    torch.testing.assert_close(copy.network(images), original.network(images), rtol=1e-4, atol=1e-4)


def test_info_says_what_an_artifact_is_and_what_a_state_dict_holds(folder):
    out, _ = run("info", "0.safetensors")
    assert out[0].startswith("0.safetensors: model, whole")
    assert "  seed: 0" in out
    tensors = trained_mlps()[0]
    torch.save({**tensors, "7.bias": torch.full((10,), torch.nan)}, "1.pt")
    out, _ = run("info", "1.pt")
    assert out[0] == "1.pt: a state dict"
    assert out[1] == f"8 tensors, {sum(tensor.numel() for tensor in tensors.values())} numbers"
    assert "  1.weight [24, 64] float32" in out
    assert "  7.bias [10] float32, holds NaN or infinity" in out


def test_a_model_that_is_given_twice_is_pointed_out(folder):
    _, err = run("match", *TWO, "0.safetensors", "--method", "naive", *OUT)
    assert "0.safetensors: given more than once; it counts that often" in err


def test_what_was_unwrapped_is_said_on_stderr(folder):
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in trained_mlps()[0].items()}}, "0.pt")
    _, err = run("info", "0.pt")
    assert [line.partition(": ")[2].split()[0] for line in err] == ["took", "took"]


def test_a_network_of_ones_own_is_found_in_the_working_folder(folder):
    body = "def net(width=5):\n    return nn.Sequential(nn.Linear(4, width), nn.Linear(width, 2))\n"
    (folder / "my_small_networks.py").write_text(f"from torch import nn\n\n\n{body}")
    assert "5" in run("trace", "my_small_networks:net", "--input", "4")[0][1].split()
    assert "7" in run("trace", "my_small_networks:net:width=7", "--input", "4")[0][1].split()


TWO = ["0.safetensors", "1.safetensors"]
OUT = ["-o", "out.safetensors"]
REFUSALS = {
    "no such file": (["match", "0.safetensors", "nowhere.pt", *OUT], "'nowhere.pt' does not exist"),
    "a folder as a model": (["match", "0.safetensors", ".", *OUT], "'.' is a directory"),
    "one model": (["match", "0.safetensors", *OUT], "1 model; give at least 2 files"),
    "a picture": (["info", "photo.pt"], "neither a safetensors nor a PyTorch file"),
    "an optimiser": (["match", "optimiser.pt", "0.pt", *NETWORK, *OUT], "the state of an optimiser"),
    "a misspelt method": (["match", *TWO, "--method", "weight_maching", *OUT], "did you mean weight_matching?"),
    "a misspelt command": (["mach", *TWO, *OUT], "No such command 'mach'"),
    "a misspelt option": (["match", *TWO, "--metod", "ste", *OUT], "--metho"),
    "a misspelt setting": (["match", *TWO, "--set", "max_round=3", *OUT], "did you mean max_rounds?"),
    "a setting without value": (["match", *TWO, "--set", "max_rounds", *OUT], "write key=value"),
    "no data": (["match", *TWO, "--method", "ste_mm", *OUT], "ste_mm reads training data; give --data"),
    "no such data": (["merge", *TWO, "--data", "digit", *OUT], "did you mean digits?"),
    "no such file of data": (["merge", *TWO, "--data", "nowhere/data.safetensors", *OUT], "no such file or folder"),
    "a model as data": (["merge", *TWO, "--data", "2.safetensors", *OUT], "holds 'model', expected 'data'"),
    "data as a model": (["match", *TWO, "data.safetensors", *OUT], "holds 'data', expected 'model'"),
    "another width": (["match", *TWO, "--network", "mlp:width=25", *OUT], "the network's is (25,)"),
    "another architecture": (["match", *TWO, "other.pt", *OUT], "other.pt: has no tensor 1.bias"),
    "no network": (["match", "0.pt", "1.pt", *OUT], "does not say of which network it is; name the network"),
    "no shape": (["match", "0.pt", "1.pt", "--network", "mlp:width=24", *OUT], "inputs of which shape"),
    "no shape, really": (["trace", "mlp", "--input", "wide"], "'wide' is no shape"),
    "another shape": (["merge", *TWO, "--input", "1,4,4", "--data", "digits", *OUT], "the network's is (24, 16)"),
    "images of another shape": (["merge", *TWO, "--data", "glyphs:train=10,test=10", *OUT], "the data's inputs are"),
    "NaN": (["match", "nan.pt", "1.pt", *NETWORK, *OUT], "3.bias holds NaN"),
    "an output that is an input": (["match", *TWO, "-o", "./1.safetensors"], "is an input as well"),
    "an output that is an input, in other words": (["match", *TWO, "-o", "a/../1.safetensors"], "is an input as well"),
    "an output that is a folder": (["match", *TWO, "-o", "folder.safetensors"], "a folder; name a file"),
    "an output below a file": (["match", *TWO, "-o", "0.pt/out.safetensors"], "is a file, not a folder"),
    "an output of another format": (["merge", *TWO, "-o", "merged.pt"], "name it merged.safetensors"),
    "permutations of others": (
        ["merge", "0.safetensors", "2.safetensors", "--permutations", "p.safetensors", *OUT],
        "models [0, 1]",
    ),
    "another order": (
        ["merge", *TWO[::-1], "--permutations", "p.safetensors", *OUT],
        "made for models [0, 1], not [1, 0]",
    ),
    "another order of state dicts": (
        ["merge", "1.pt", "0.pt", *NETWORK, "--permutations", "q.safetensors", *OUT],
        "made for other models, or for these in another order",
    ),
    "a copy of another": (["permute", "2.safetensors", "--permutations", "p.safetensors", *OUT], "not made for 2"),
    "no order for a copy": (["permute", "2.safetensors", *OUT], "either --permutations or --random"),
    "a model as permutations": (["merge", *TWO, "--permutations", "2.safetensors", *OUT], "expected 'permutations'"),
    "a search and its result": (
        ["merge", *TWO, "--permutations", "p.safetensors", "--method", "naive", *OUT],
        "--method belongs to a search",
    ),
    "repair without data": (["merge", *TWO, "--normalization", "repair", *OUT], "REPAIR measures activations"),
}


@pytest.fixture(scope="session")
def clumsy(originals, tmp_path_factory):
    """The models with everything beside them that people name by mistake."""
    folder = tmp_path_factory.mktemp("clumsy")
    shutil.copytree(originals, folder, dirs_exist_ok=True)
    state = trained_mlps()[0]
    (folder / "photo.pt").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(200))
    (folder / "folder.safetensors").mkdir()
    torch.save({"state": {}, "param_groups": [{"lr": 0.1}]}, folder / "optimiser.pt")
    torch.save(torch.nn.Conv2d(1, 2, 3).state_dict(), folder / "other.pt")
    torch.save({**state, "3.bias": torch.full((24,), torch.nan)}, folder / "nan.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("match", *TWO, "--method", "naive", "-o", "p.safetensors")
        run("match", "0.pt", "1.pt", *NETWORK, "--method", "naive", "-o", "q.safetensors")
    return folder


@pytest.mark.parametrize("case", REFUSALS)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(clumsy, monkeypatch, case):
    monkeypatch.chdir(clumsy)
    before = untouched(clumsy)
    arguments, reason = REFUSALS[case]
    assert reason in refused(*arguments)
    assert untouched(clumsy) == before


def test_a_folder_that_may_not_be_written_is_refused_before_the_search(clumsy, monkeypatch):
    monkeypatch.chdir(clumsy)
    monkeypatch.setattr("os.access", lambda path, mode: mode == os.R_OK)
    assert "may not be written" in refused("match", *TWO, *OUT)


def test_an_interruption_ends_with_its_own_status_and_one_line(clumsy, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.chdir(clumsy)
    monkeypatch.setattr("onebasin.matching.naive.naive", interrupted)
    _, err = run("match", *TWO, "--method", "naive", *OUT, status=130)
    assert err == ["Error: interrupted; no output was written"]
    assert not (clumsy / "out.safetensors").exists()


def test_an_output_that_was_there_is_replaced_only_when_the_new_one_is_whole(folder, monkeypatch):
    run("match", *TWO, "--method", "naive", *OUT)
    before = (folder / "out.safetensors").read_bytes()
    monkeypatch.setattr("onebasin.matching.naive.naive", lambda *arguments: 1 / 0)
    done = CliRunner().invoke(main, ["match", *TWO, "--method", "naive", *OUT])
    assert isinstance(done.exception, ZeroDivisionError)  # a fault of the program keeps its traceback
    assert (folder / "out.safetensors").read_bytes() == before


def test_transformers_are_merged_in_canonical_form_where_that_is_asked_for(tmp_path):
    network = {"name": "vit", "patch": 4, "width": 16, "heads": 2, "hidden": 24}
    settings = {"optimizer": "adam", "lr": 0.003, "weight_decay": 0.0, "batch": 50, "epochs": 1}
    data = few_digits()
    models, _ = train(network, data, settings, range(2), root=0)
    files = [tmp_path / "0.pt", tmp_path / "1.pt"]
    for file, own in zip(files, models, strict=True):
        torch.save(own, file)
    text = "vit:patch=4,width=16,heads=2,hidden=24"
    given = ["--network", text, "--input", "1,8,8", "--classes", "10"]
    ordinary, canonical = tmp_path / "ordinary.safetensors", tmp_path / "canonical.safetensors"
    run("merge", *files, *given, "-o", ordinary)
    assert set(onebasin.load_models([ordinary], text, (1, 8, 8), 10)[0]) == set(models[0])
    run("merge", *files, *given, "--canonical", "-o", canonical)
    loaded = onebasin.load_canonical(canonical)
    assert loaded(data.test.inputs[:3]).shape == (3, 10)
    assert set(onebasin.load_models([canonical])[0]) == set(loaded.state_dict())
    assert '"stem": "patches"' in "".join(run("info", canonical)[0])
    with pytest.raises(OnebasinError, match="not a model in canonical form"):
        onebasin.load_canonical(ordinary)
    lines = "".join(run("trace", text, "--input", "1,8,8", "--canonical")[0])
    assert "orthogonal" in lines
    assert "orthogonal" not in "".join(run("trace", text, "--input", "1,8,8")[0])

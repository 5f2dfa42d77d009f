import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from onebasin.config.experiment import (
    Experiment,
    figures_from,
    read_configuration,
    read_downloads,
    read_experiments,
    require_checkpoints,
    require_claims,
)
from onebasin.config.repeated_keys import refuse_repeated_keys
from onebasin.errors import OnebasinError
from onebasin.registry import entries

ROOT = Path(__file__).parents[2]
SMALL = (ROOT / "tests" / "workflow" / "small.yaml").read_text()
CONFIG = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
DIGITS = "experiments.digits_mlp"
REMOVED = object()


def experiment(**settings):
    defaults = {"seeds": list(range(12)), "counts": [2, 4, 3], "trials": 3, "landscape": {"trial": 0}}
    return Experiment("tiny", {**defaults, "training": {}, **settings})


def changed(path, value):
    """The default configuration with the value at `path` (keys joined by dots) replaced, or REMOVED."""
    config = copy.deepcopy(CONFIG)
    *parents, key = path.split(".")
    place = config
    for parent in parents:
        place = place.setdefault(parent, {})  # a method that it lacks
    if value is REMOVED:
        del place[key]
    else:
        place[key] = value
    return config


def refusal(config):
    """The line for a configuration that the schema refuses."""
    with pytest.raises(OnebasinError) as caught:
        read_configuration(config)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return line


# Experiments


def test_counts_are_ascending():
    assert experiment().counts == [2, 3, 4]


@pytest.mark.parametrize(("counts", "plane"), [([2, 5, 3], [3]), ([2], []), ([7, 4], [4])])
def test_the_plane_is_spanned_by_the_smallest_count_of_three_or_more(counts, plane):
    assert experiment(counts=counts).counts_of("landscape") == plane


SIZES = st.tuples(st.sets(st.integers(2, 6), min_size=1), st.integers(1, 4), st.integers(0, 3))


@given(SIZES)
def test_no_two_trials_share_a_model(sizes):
    counts, trials, spare = sizes
    seeds = [100 - seed for seed in range(max(counts) * trials + spare)]
    tiny = experiment(counts=list(counts), trials=trials, seeds=seeds)
    drawn = [seed for trial in tiny.trials for seed in tiny.models_of(trial)]
    assert len(set(drawn)) == len(drawn) == max(counts) * trials
    assert set(drawn) <= set(seeds)


@given(SIZES)
def test_a_count_takes_the_trials_first_models(sizes):
    counts, trials, _ = sizes
    tiny = experiment(counts=list(counts), trials=trials, seeds=list(range(max(counts) * trials)))
    for trial in tiny.trials:
        for count in counts:
            assert tiny.models_of(trial, count) == tiny.models_of(trial)[:count]
            assert len(tiny.models_of(trial, count)) == count


def test_adding_seeds_changes_no_trial():
    few, many = experiment(), experiment(seeds=list(range(20)))
    assert [few.models_of(trial) for trial in few.trials] == [many.models_of(trial) for trial in many.trials]


def test_methods_are_found_and_their_settings_are_theirs_alone():
    methods = {
        "naive": {},
        "ste_mm": {"epochs": 3},
        "mine": {"function": "my.methods:search", "model_by_model": True, "strength": 2},
        "other": {"function": "my.methods:other"},
    }
    tiny = experiment(methods=methods, data={"name": "digits"}, network={"name": "my.networks:deep"})
    assert tiny.function_of("method", "ste_mm") == "onebasin.matching.ste_mm:ste_mm"
    assert tiny.function_of("method", "mine") == "my.methods:search"
    assert tiny.function_of("data") == "onebasin.data:digits"
    assert tiny.function_of("network") == "my.networks:deep"
    assert tiny.method_settings("ste_mm") == {"epochs": 3}
    assert tiny.method_settings("mine") == {"strength": 2}
    assert [tiny.is_model_by_model(name) for name in methods] == [True, False, True, False]


def test_a_method_that_leaves_the_first_model_is_anchored():
    methods = {
        **{name: {} for name in ("naive", "weight_matching", "ste", "ste_mm")},
        "mine": {"function": "my.methods:search", "anchored": True, "strength": 2},
        "other": {"function": "my.methods:other"},
    }
    tiny = experiment(methods=methods)
    assert [tiny.is_anchored(name) for name in methods] == [True, False, True, True, True, False]
    assert tiny.method_settings("mine") == {"strength": 2}


def test_the_three_model_test_is_for_counts_of_three_or_more():
    assert experiment(counts=[5, 2, 3]).counts_of("three_models") == [3, 5]
    assert experiment(counts=[2]).counts_of("three_models") == []


def test_too_few_seeds_are_refused_with_the_number_needed():
    config = {"experiments": {"tiny": experiment(seeds=list(range(11))).settings}}
    with pytest.raises(OnebasinError, match=r"experiments\.tiny\.counts: 3 trials of 4 .*need 12 seeds.*has 11"):
        read_experiments(config)


def test_just_enough_seeds_are_enough():
    assert list(read_experiments({"experiments": {"tiny": experiment().settings}})) == ["tiny"]


def test_a_landscape_of_a_trial_that_is_not_run_is_refused():
    config = {"experiments": {"tiny": experiment(landscape={"trial": 3}).settings}}
    with pytest.raises(OnebasinError, match=r"experiments\.tiny\.landscape\.trial: 3"):
        read_experiments(config)


# Own checkpoints


def adopting(**settings):
    """An experiment of two models of one's own, whose schema-validated settings are completed as in a run."""
    own = {"seeds": REMOVED, "counts": [2], "trials": 1, "models": {"checkpoints": ["a.pt", "b.pt"]}, **settings}
    settings = {key: value for key, value in experiment(**own).settings.items() if value is not REMOVED}
    return read_experiments({"experiments": {"tiny": settings}})["tiny"]


def test_own_checkpoints_are_named_by_their_places_or_by_seeds():
    assert adopting().checkpoints == {0: "a.pt", 1: "b.pt"}
    assert adopting(seeds=[7, 3]).checkpoints == {7: "a.pt", 3: "b.pt"}
    assert adopting(seeds=[7, 3]).models_of(0) == [7, 3]
    assert experiment().checkpoints == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": [1, 2, 3]}, r"seeds: 3 for 2 models\.checkpoints; .*leave seeds out"),
        ({"counts": [2, 3]}, r"counts: 1 trials of 3 need 3 models; experiments\.tiny\.models\.checkpoints has 2"),
    ],
)
def test_checkpoints_that_do_not_suffice_are_counted(settings, message):
    with pytest.raises(OnebasinError, match=message):
        adopting(**settings)


def test_a_checkpoint_has_to_be_there_until_it_was_adopted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pattern = "{experiment}-{seed}.safetensors"
    (tmp_path / "a.pt").touch()
    with pytest.raises(OnebasinError, match=r"experiments\.tiny\.models\.checkpoints: b\.pt: no such file"):
        require_checkpoints({"tiny": adopting()}, pattern)
    (tmp_path / "tiny-1.safetensors").touch()
    require_checkpoints({"tiny": adopting()}, pattern)


@pytest.mark.parametrize(
    ("changes", "has"),
    [
        ({"training": REMOVED, "seeds": REMOVED}, "neither"),
        ({"training": REMOVED}, "seeds"),
        ({"seeds": REMOVED}, "training"),
        ({"models": {"checkpoints": ["a.pt", "b.pt"]}}, "training, seeds, models"),
        ({"models": {"checkpoints": ["a.pt", "b.pt"]}, "seeds": REMOVED}, "training, models"),
    ],
)
def test_models_are_trained_or_given_and_never_both(changes, has):
    config = copy.deepcopy(CONFIG)
    digits = config["experiments"]["digits_mlp"]
    for key, value in changes.items():
        digits.pop(key) if value is REMOVED else digits.update({key: value})
    assert refusal(config) == f"config: {DIGITS}: wants either training and seeds, or models; has {has}"


@pytest.mark.parametrize("seeds", [REMOVED, [4, 5]])
def test_given_models_are_valid_with_or_without_seeds(seeds):
    config = changed(f"{DIGITS}.training", REMOVED)
    digits = config["experiments"]["digits_mlp"]
    digits |= {"models": {"checkpoints": ["a.pt", "b.pt"]}, "seeds": seeds, "counts": [2], "trials": 1}
    if seeds is REMOVED:
        del digits["seeds"]
    found = read_configuration(config).experiments["digits_mlp"]
    assert found.models_of(0) == ([0, 1] if seeds is REMOVED else seeds)


def test_a_file_of_claims_has_to_be_there(tmp_path):
    (tmp_path / "there.yaml").touch()
    require_claims([str(tmp_path / "there.yaml")])
    with pytest.raises(OnebasinError, match=r"claims: .*none\.yaml: no such file"):
        require_claims([str(tmp_path / "there.yaml"), str(tmp_path / "none.yaml")])


# Downloads


def downloading(name="cifar10", root="data", download=True):
    return experiment(data={"name": name, "root": root, "download": download, "validation_fraction": 0.1})


def test_experiments_share_what_is_downloaded():
    found = read_downloads({"a": downloading(), "b": downloading("mnist"), "c": downloading()})
    assert found == {"cifar10": {"root": "data", "download": True}, "mnist": {"root": "data", "download": True}}


def test_other_data_are_not_downloaded():
    folder = experiment(data={"name": "image_folder", "root": "pictures", "size": 32})
    own = experiment(data={"name": "my.data:set", "root": "data", "download": True})
    assert read_downloads({"a": folder, "b": own}) == {}
    assert (folder.data, own.data) == (folder["data"], own["data"])


def test_one_experiment_that_forbids_a_download_is_enough():
    assert read_downloads({"a": downloading(), "b": downloading(download=False)})["cifar10"]["download"] is False


def test_one_data_set_in_two_folders_is_refused():
    with pytest.raises(OnebasinError, match=r"data\.root: cifar10 is in data for another"):
        read_downloads({"a": downloading(), "b": downloading(root="elsewhere")})


def test_where_archives_are_decides_no_data():
    assert downloading().data == downloading(root="elsewhere", download=False).data
    assert downloading().data == {"name": "cifar10", "validation_fraction": 0.1}


# Seeds by job


def seeded(seeds):
    """An experiment of these seeds, of which it may need only one."""
    own = experiment(seeds=seeds, counts=[1], trials=1).settings
    return read_experiments({"experiments": {"tiny": own}})["tiny"]


@pytest.mark.parametrize(
    ("given", "blocks"),
    [
        ([3, 1, 2], [(3,), (1,), (2,)]),
        (["0-4"], [(0, 1, 2, 3, 4)]),
        (["0-2", 7, "10-11"], [(0, 1, 2), (7,), (10, 11)]),
        (["5-5"], [(5,)]),
    ],
)
def test_a_range_of_seeds_is_trained_by_one_job(given, blocks):
    tiny = seeded(given)
    assert tiny.blocks == blocks
    assert tiny["seeds"] == [seed for block in blocks for seed in block]


@given(st.lists(st.integers(0, 30), unique=True, min_size=1, max_size=15), st.integers(31, 40))
def test_adding_seeds_changes_no_block(before, added):
    assert seeded([added, *before]).blocks[1:] == seeded([*before, added]).blocks[:-1] == seeded(before).blocks


@pytest.mark.parametrize("seeds", [["0-2", 1], ["0-3", "3-5"]])
def test_a_seed_that_is_there_twice_is_refused(seeds):
    config = {"experiments": {"tiny": experiment(seeds=seeds).settings}}
    with pytest.raises(OnebasinError, match=r"experiments\.tiny\.seeds: [13] is there twice"):
        read_experiments(config)


def test_the_key_of_earlier_versions_is_refused_with_what_to_write():
    assert "seeds: [0-4, 5-9]" in refusal(changed(f"{DIGITS}.training.seeds_per_job", 5))


# Measures


def measuring(**settings):
    config = copy.deepcopy(CONFIG)
    config["experiments"]["digits_mlp"].update(settings)
    return read_configuration(config).experiments["digits_mlp"]


def test_all_is_measured_that_the_counts_and_methods_allow():
    every = {*entries("measure")}
    optional = {name for name, entry in entries("measure").items() if entry.get("optional")}
    assert set(measuring().measures) == every - optional
    assert {"llfc", "robustness"} <= optional
    assert "llfc" in measuring(measures={"llfc": {}}).measures
    assert "landscape" not in measuring(counts=[2]).measures
    assert "three_models" not in measuring(counts=[2]).measures
    assert "truncation" not in measuring(methods={"naive": {}, "ste_mm": {}}).measures
    assert "acceleration" not in measuring(methods={"naive": {}}).measures


def test_an_experiment_that_lists_measures_gets_these_and_what_they_read():
    found = measuring(measures={"sharpness": {}, "landscape": {}})
    assert found.measures == ["history", "timing", "parents_sharpness", "sharpness", "landscape"]
    assert {"sharpness", "top_eigenvalue", "landscape", "timing"} <= {*found.tables}
    assert "merged" not in found.tables
    assert figures_from(found.tables) == ["sharpness", "training", "landscape"]


def test_a_figure_against_a_setting_is_that_of_studies_that_vary_it():
    found = measuring(measures={"calibration": {}})
    assert "calibration" in found.tables
    assert "width" not in figures_from(found.tables)
    assert figures_from(found.tables, "studies", ["depth"]) == []
    assert figures_from(found.tables, "studies", ["depth", "width"]) == ["width"]


def test_a_measure_is_told_its_settings_counts_trials_and_searches():
    found = measuring(counts=[5, 2, 3], landscape={"trial": 1})
    assert (found.counts_of("landscape"), found.trials_of("landscape")) == ([3], [1])
    assert (found.counts_of("three_models"), found.counts_of("evaluation")) == ([3, 5], [2, 3, 5])
    assert found.settings_of("geometry")["points"] == 11
    assert set(found.settings_of("sharpness")) == {"split", "images", "probes"}
    assert list(found.searches_of("three_models")) == ["weight_matching", "activation_matching"]
    assert found.searches_of("truncation")["weight_matching"][1]["max_rounds"] == 100


def test_an_unknown_measure_is_refused():
    assert "did you mean sharpness?" in refusal(changed(f"{DIGITS}.measures", {"sharpnes": {}}))


@pytest.mark.parametrize(("size", "blocks"), [(None, [5]), (1, [1] * 5), (2, [2, 2, 1])])
def test_methods_share_measuring_jobs_as_asked(size, blocks):
    found = measuring(methods_per_job=size).blocks_of_methods
    assert [len(methods) for methods in found.values()] == blocks
    assert [methods[0] for methods in found.values()] == list(found)


# Configurations against the schema


def test_the_default_configuration_is_valid():
    config = copy.deepcopy(CONFIG)
    assert list(read_configuration(config).experiments) == ["digits_mlp"]


def test_what_is_left_out_gets_its_default():
    config = changed(f"{DIGITS}.landscape", REMOVED)
    del config["threads"]
    config["experiments"]["digits_mlp"]["methods"]["ste_mm"] = {}
    config["experiments"]["digits_mlp"]["data"] = {"name": "digits"}
    digits = read_configuration(config).experiments["digits_mlp"]
    assert config["threads"] == 1
    assert digits["analysis"]["gammas"] == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert digits["analysis"]["truncation"] == [0, 0.3, 0.5, 0.7, 0.9]
    assert digits["landscape"] == {"split": "test", "trial": 0, "resolution": 25}
    everyone = {"validation_fraction": 0.0, "validation_seed": 0}
    assert digits["data"] == {"name": "digits", "test_fraction": 0.2, "seed": 0} | everyone
    assert digits.method_settings("ste_mm")["weights"] == "random"


def test_ones_own_data_network_and_method_are_valid():
    config = changed(f"{DIGITS}.methods.mine", {"function": "my.methods:search", "strength": 3})
    config["experiments"]["digits_mlp"]["data"] = {"name": "my.data:images", "size": 32}
    config["experiments"]["digits_mlp"]["network"] = {"name": "my_networks:deep", "blocks": 4}
    assert read_configuration(config).experiments["digits_mlp"].function_of("data") == "my.data:images"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gammas": [0, 1.2]}, ["analysis.gammas[1]", "1.2", "maximum of 1"]),
        ({"truncation": []}, ["analysis.truncation", "non-empty"]),
        ({"gamma": [0.3]}, ["analysis.gamma", "did you mean gammas?"]),
    ],
)
def test_a_wrong_cutoff_is_refused(settings, words):
    line = refusal(changed(f"{DIGITS}.analysis", settings))
    assert all(word in line for word in words)


MISSPELT = [
    ("treads", 2, "did you mean threads?"),
    (f"{DIGITS}.trails", 3, "did you mean trials?"),
    (f"{DIGITS}.data.test_fractoin", 0.1, "did you mean test_fraction?"),
    (f"{DIGITS}.network.widht", 8, "did you mean width?"),
    (f"{DIGITS}.training.learning_rate", 0.1, "allowed: optimizer, lr, momentum, weight_decay, batch, epochs"),
    (f"{DIGITS}.methods.naive.epochs", 1, "no such key"),
    (f"{DIGITS}.methods.weight_matching.max_round", 1, "did you mean max_rounds?"),
    (f"{DIGITS}.methods.activation_matching.image", 100, "did you mean images?"),
    (f"{DIGITS}.methods.c2m3.max_step", 100, "did you mean max_steps?"),
    (f"{DIGITS}.methods.ste.epoch", 1, "did you mean epochs?"),
    (f"{DIGITS}.methods.ste_mm.weight", "equal", "did you mean weights?"),
    (f"{DIGITS}.interpolation.point", 5, "did you mean points?"),
    (f"{DIGITS}.sharpness.probe", 5, "did you mean probes?"),
    (f"{DIGITS}.landscape.resolutoin", 5, "did you mean resolution?"),
    (f"{DIGITS}.acceleration.epoch", 5, "did you mean epochs?"),
]


@pytest.mark.parametrize(("path", "value", "hint"), MISSPELT)
def test_a_misspelt_key_is_named_with_what_is_allowed(path, value, hint):
    line = refusal(changed(path, value))
    assert line.startswith(f"config: {path}: no such key")
    assert hint in line
    assert "allowed: " in line


WRONG = [
    ("device", "gpu", ["cpu", "cuda"]),
    ("threads", 0, ["1"]),
    ("threads", 1.5, ["integer"]),
    ("experiments", {}, ["non-empty"]),
    (f"{DIGITS}.seed", -1, ["-1", "0"]),
    (f"{DIGITS}.trials", "three", ["'three'", "integer"]),
    (f"{DIGITS}.seeds", [0, 1, 1], ["unique"]),
    (f"{DIGITS}.seeds", 5, ["array"]),
    (f"{DIGITS}.counts", [], ["non-empty"]),
    (f"{DIGITS}.counts[0]", [1], ["2"]),
    (f"{DIGITS}.data.test_fraction", 1.5, ["1.5", "1"]),
    (f"{DIGITS}.data.name", "digit", ["'digit'", "digits", "package.module:callable"]),
    (f"{DIGITS}.network.name", "mlpp", ["'mlpp'", "mlp", "package.module:callable"]),
    (f"{DIGITS}.network.width", "wide", ["'wide'", "integer"]),
    (f"{DIGITS}.training.optimizer", "adamx", ["'adamx'", "adam", "adamw", "sgd"]),
    (f"{DIGITS}.training.epochs", -30, ["-30", "1"]),
    (f"{DIGITS}.training.lr", 0, ["0"]),
    (f"{DIGITS}.training.lr", "1e-3", ["'1e-3'", "number"]),
    (f"{DIGITS}.methods.ste_mm.weights", "uniform", ["'uniform'", "random", "equal"]),
    (f"{DIGITS}.methods.ste_mm.epochs", True, ["True", "integer"]),
    (f"{DIGITS}.methods.ste_mm.warm_start", "yes", ["'yes'", "boolean"]),
    (f"{DIGITS}.methods.activation_matching.images", 0, ["0", "1"]),
    (f"{DIGITS}.methods.activation_matching.batch", 1.5, ["1.5", "integer"]),
    (f"{DIGITS}.methods.c2m3.max_steps", None, ["None", "integer"]),
    (f"{DIGITS}.sharpness.split", "validation", ["'validation'", "train", "test"]),
    (f"{DIGITS}.methods.ste_nm", {"epochs": 3}, ["function", "ste_mm"]),
    (f"{DIGITS}.methods.mine.function", "search", ["'search'"]),
]


@pytest.mark.parametrize(("path", "value", "words"), WRONG)
def test_a_wrong_value_is_named_with_what_is_allowed(path, value, words):
    place = path.removesuffix("[0]")
    if place.endswith("mine.function"):
        place, value = place.removesuffix(".function"), {"function": value}
    line = refusal(changed(place, value))
    assert line.startswith(f"config: {path}: ")
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("section", "settings", "expected"),
    [
        ("data", {"name": "glyphs"}, {"train": 10000, "test": 2000, "size": 32, "seed": 0}),
        ("data", {"name": "cifar10", "download": False}, {"root": "data", "download": False}),
        ("data", {"name": "image_folder", "root": "pictures", "size": 64}, {"root": "pictures", "size": 64}),
        (
            "data",
            {"name": "text", "path": "rhyme.txt"},
            {"path": "rhyme.txt", "context": 64, "vocabulary": "characters", "test_fraction": 0.1}
            | {"train": None, "test": None},
        ),
        ("data", {"name": "my.data:set", "anything": [1]}, {"anything": [1], "validation_fraction": 0.0}),
        ("network", {"name": "resnet20", "width": 0.5}, {"width": 0.5, "norm": "batch"}),
        ("network", {"name": "vgg11", "width": 4, "norm": "layer"}, {"width": 4, "norm": "layer"}),
        ("network", {"name": "my.networks:deep", "anything": [1]}, {"anything": [1]}),
    ],
)
def test_data_and_networks_get_the_defaults_of_their_kind(section, settings, expected):
    config = changed(f"{DIGITS}.{section}", settings)
    read_configuration(config)
    found = dict(config["experiments"]["digits_mlp"][section])
    for key in ("name", "validation_fraction", "validation_seed"):
        found.pop(key, None) if key not in expected else None
    assert found == expected


def test_settings_of_training_that_are_left_out_are_no_part_of_what_made_a_model():
    config = changed(f"{DIGITS}.training", {"optimizer": "adam", "lr": 0.1, "batch": 9, "epochs": 4})
    config["experiments"]["digits_mlp"]["training"]["schedule"] = {"peak": 2}
    assert read_configuration(config).experiments["digits_mlp"].recipe["training"] == {
        **{"optimizer": "adam", "lr": 0.1, "batch": 9, "epochs": 4, "momentum": 0.0, "weight_decay": 0.0},
        **{"schedule": {"peak": 2, "update": "step"}, "select": "last", "precision": "float32", "compile": False},
        **{"save_every": 10},
    }


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"name": "linear", "peak": 2, "update": "epoch"}, {"name": "linear", "peak": 2, "update": "epoch"}),
        ({"name": "cosine"}, {"name": "cosine", "warmup": 0, "update": "step"}),
        (
            {"name": "step", "milestones": [2]},
            {"name": "step", "milestones": [2], "factor": 0.1, "warmup": 0, "update": "step"},
        ),
    ],
)
def test_schedules_get_the_defaults_of_their_kind(schedule, expected):
    config = changed(f"{DIGITS}.training.schedule", schedule)
    read_configuration(config)
    assert config["experiments"]["digits_mlp"]["training"]["schedule"] == expected


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ({}, ["training.schedule", "'peak' is a required property"]),
        ({"peak": 0}, ["schedule.peak", "0"]),
        ({"peak": 2, "warmup": 1}, ["schedule.warmup", "no such key", "peak"]),
        ({"name": "cosine", "peak": 1}, ["schedule.peak", "no such key", "warmup"]),
        ({"name": "step"}, ["schedule", "'milestones' is a required property"]),
        ({"name": "step", "milestones": [1], "factor": 1}, ["schedule.factor", "1"]),
        ({"name": "cosin"}, ["schedule.name", "'cosin'", "'linear', 'cosine', 'step'"]),
    ],
)
def test_a_wrong_schedule_is_refused(schedule, words):
    line = refusal(changed(f"{DIGITS}.training.schedule", schedule))
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("section", "settings", "words"),
    [
        ("data", {"name": "cifar10", "size": 32}, ["data.size", "no such key", "root, download"]),
        ("data", {"name": "glyphs", "training": 32}, ["data.training", "did you mean train?"]),
        ("data", {"name": "image_folder", "root": "here"}, ["data", "'size' is a required property"]),
        ("data", {"name": "text"}, ["data", "'path' is a required property"]),
        ("data", {"name": "text", "path": "a", "vocabulary": "words"}, ["'words'", "'characters', 'bytes'"]),
        ("data", {"name": "mnist", "validation_fraction": 1}, ["data.validation_fraction", "1"]),
        ("data", {"name": "glyphs", "train": 5}, ["data.train", "5", "10"]),
        ("data", {"root": "data"}, ["data", "'name' is a required property"]),
        ("data", {"name": "cifar"}, ["data.name", "cifar100", "package.module:callable"]),
        ("network", {"name": "resnet20", "depth": 3}, ["network.depth", "no such key", "width, norm"]),
        ("network", {"name": "vgg11", "norm": "bach"}, ["network.norm", "'bach'", "'batch', 'layer', 'none'"]),
        ("network", {"name": "vgg11", "width": 0}, ["network.width", "0"]),
        ("network", {"width": 2}, ["network", "'name' is a required property"]),
    ],
)
def test_settings_of_another_data_set_or_network_are_refused(section, settings, words):
    line = refusal(changed(f"{DIGITS}.{section}", settings))
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    "path",
    ["threads", "experiments", DIGITS]
    + [f"{DIGITS}.{key}" for key in ("data", "network", "training", "methods", "landscape")]
    + [f"{DIGITS}.methods.{method}" for method in ("naive", "ste_mm", "mine")],
)
@pytest.mark.parametrize("value", ["text", [1], None])
def test_a_section_of_the_wrong_type_is_named(path, value):
    line = refusal(changed(path, value))
    assert line.startswith(f"config: {path}: ")
    assert "is not of type" in line


@pytest.mark.parametrize("key", ["data", "network", "counts", "trials", "methods"])
def test_a_missing_section_is_named(key):
    line = refusal(changed(f"{DIGITS}.{key}", REMOVED))
    assert line.startswith(f"config: {DIGITS}: ")
    assert f"'{key}' is a required property" in line


def test_a_configuration_without_experiments_is_refused():
    line = refusal({"threads": 1})
    assert line.startswith("config: 'experiments' is a required property")


@pytest.mark.parametrize(
    ("path", "where"), [("experiments.Digits", "experiments"), (f"{DIGITS}.methods.n-1", "methods")]
)
def test_a_name_that_cannot_be_a_folder_is_refused(path, where):
    config = copy.deepcopy(CONFIG)
    place = config["experiments"]
    if where == "methods":
        place = place["digits_mlp"]["methods"]
    place[path.rpartition(".")[2]] = {"function": "my.methods:search"} if where == "methods" else place["digits_mlp"]
    line = refusal(config)
    assert where in line
    assert path.rpartition(".")[2] in line
    assert "small letters, digits and _" in line


# Everything that may be wrong, as the workflow reads it


def refused(text, path):
    """What reading a configuration file comes to: the one line of its refusal."""
    path.write_text(text)
    config = yaml.safe_load(text)
    try:
        refuse_repeated_keys([path])
        read_configuration(config)
    except OnebasinError as error:
        return str(error)
    raise AssertionError("not refused")


@pytest.mark.parametrize(
    ("old", "new", "named", "way_out"),
    [
        ("ste_mm: {epochs: 2}", "ste_nm: {epochs: 2}", "methods.ste_nm", "ste_mm"),
        ("counts: [2, 3]", "counts: [2, 9]", "counts", "add seeds"),
        ("epochs: 6", "epochs: -6", "training.epochs", "minimum of 1"),
        ("epochs: 6", "epoch: 6", "training.epoch", "epochs"),
        ("optimizer: adam", "optimizer: adm", "training.optimizer", "adam"),
        ("name: mlp", "name: mpl", "network.name", "mlp"),
        ("name: digits", "name: digit", "data.name", "digits"),
        ("trials: 2", "trials: two", "trials", "integer"),
        ("trials: 2", "trials: 2\n    resources: {trian: {runtime: 5}}", "resources.trian", "train"),
        ("trials: 2", "trials: 2\n    resources: {train: {runtime: 0}}", "resources.train.runtime", "minimum of 1"),
        ("    counts: [2, 3]\n", "", "counts", "required"),
        ("trials: 2", "trials: 2\n    trials: 3", "line 10: trials", "keep one"),
        (
            "    training: {opt",
            "    models: {checkpoints: [a, b]}\n    training: {opt",
            "experiments.small",
            "or models",
        ),
        ("  small:\n", "  Small Experiment:\n", "Small Experiment", "small letters"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_line_that_says_what_to_write(tmp_path, old, new, named, way_out):
    assert SMALL.count(old)
    line = refused(SMALL.replace(old, new, 1), tmp_path / "small.yaml")
    assert len(line.splitlines()) == 1
    assert named in line
    assert way_out in line


def test_claims_are_judged_by_what_names_them_or_leaves_that_to_the_configuration():
    plain = {
        **{"data": {"name": "digits"}, "network": {"name": "mlp"}, "seeds": ["0-1"], "counts": [2], "trials": 1},
        **{"training": {"optimizer": "adam", "lr": 0.1, "batch": 9, "epochs": 1}, "methods": {"naive": {}}},
    }
    experiments = {
        "plain": plain,
        "own": {**plain, "claims": ["own.yaml"]},
        "none": {**plain, "claims": []},
        "wide": {**plain, "claims": ["own.yaml", "both.yaml"], "vary": {"network.width": [8]}},
    }
    found = read_configuration({"experiments": experiments, "claims": ["both.yaml", "nobody.yaml"]}).claims
    assert found == {
        "both.yaml": ["plain", "wide_width_8", "wide"],
        "nobody.yaml": ["plain"],
        "own.yaml": ["own", "wide_width_8", "wide"],
    }

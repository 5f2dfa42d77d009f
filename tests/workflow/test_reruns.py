"""What a change makes run again: all that depends on it, and nothing else."""

import shutil

import pytest

pytestmark = pytest.mark.exhaustive

MERGED = ("merge", *[f"measure_search[{name}]" for name in ("evaluation", "sharpness", "landscape", "geometry")])
END = ("claims", "provenance")


def rules(planned, *prefixes):
    return {name for name in planned if name.startswith(prefixes)}


def test_a_new_seed_trains_alone(copied):
    copied.edit("small.yaml", "seeds: [0-3, 4-5]", "seeds: [0-3, 4-5, 6]")
    shown = {"tables": 1, "figures": 1}
    assert copied.planned() == {"train": 1} | shown | dict.fromkeys(END, 1)


def test_a_new_range_of_seeds_trains_alone(copied):
    copied.edit("small.yaml", "seeds: [0-3, 4-5]", "seeds: [0-3, 4-5, 6-8]")
    assert rules(copied.planned(), "train", "match", "measure") == {"train_6_8"}


def test_a_new_first_seed_trains_alone(copied):
    copied.edit("small.yaml", "seeds: [0-3, 4-5]", "seeds: [7, 0-3, 4-5]")
    copied.edit("small.yaml", "trials: 2", "trials: 1")  # the trials' models are another matter
    copied.edit("small.yaml", "counts: [2, 3]", "counts: [2]")
    assert {name: number for name, number in copied.planned().items() if name.startswith("train")} == {"train": 1}


@pytest.mark.parametrize("seeds", ["[0-1, 2-3, 4-5]", "[0, 1, 2, 3, 4, 5]", "[0-5]"])
def test_seeds_grouped_otherwise_train_nothing_again(copied, seeds):
    copied.edit("small.yaml", "seeds: [0-3, 4-5]", f"seeds: {seeds}")
    assert copied.planned() == {"provenance": 1}  # which writes down the configuration


def test_resources_rerun_nothing(copied):
    needs = "{match: {mem_mb: 32000, runtime: 600}, sharpness: {mem_mb: 8000}, train: {runtime: 1}}"
    copied.edit("small.yaml", "    trials: 2\n", f"    trials: 2\n    resources: {needs}\n")
    done = copied.run("--dry-run")
    assert "Nothing to be done" in done.stdout + done.stderr


def test_a_setting_of_a_method_reruns_that_method(copied):
    copied.edit("small.yaml", "ste_mm: {epochs: 2}", "ste_mm: {epochs: 3}")
    planned = copied.planned()
    assert rules(planned, "train", "match") == {"match[ste_mm]"}
    assert planned["match[ste_mm]"] == 4
    assert [planned[name] for name in MERGED] == [2, 2, 2, 1, 2]  # one a trial, for all methods
    assert "measure_trial[parents_sharpness]" not in planned
    assert "measure_experiment[spectra]" not in planned


def test_a_setting_of_the_sharpness_reruns_no_search(copied):
    copied.edit("small.yaml", "probes: 4", "probes: 5")
    assert set(copied.planned()) - {*END} == {
        *("measure_search[sharpness]", "measure_trial[parents_sharpness]", "tables", "figures"),
    }


def test_a_setting_of_the_analysis_reruns_what_it_is_for(copied):
    copied.edit("small.yaml", "    trials: 2\n", "    trials: 2\n    analysis: {truncation: [0, 0.5]}\n")
    assert set(copied.planned()) - {*END} == {
        *("measure_trial[truncation]", "tables", "figures"),
    }


def test_a_new_method_reruns_no_other(copied):
    copied.edit("workflow/onebasin/registry/figure.toml", "[merged]", "# a comment\n[merged]")
    shutil.copy(copied.folder / "workflow/onebasin/matching/naive.py", copied.folder / "mine.py")
    copied.edit("small.yaml", "      naive: {}\n", '      naive: {}\n      own: {function: "mine:naive"}\n')
    assert rules(copied.planned(), "train", "match") == {"match[own]"}


def test_a_comment_reruns_nothing(copied):
    copied.edit("workflow/onebasin/matching/ste_mm.py", "    steps = 0\n", "    # how often\n    steps = 0\n\n")
    copied.edit("workflow/onebasin/training/run.py", '"""Train one model a seed', '"""Train a model for every seed')
    copied.edit("workflow/scripts/train.py", '"""Train', '# a remark\n"""Train')
    done = copied.run("--dry-run")
    assert "Nothing to be done" in done.stdout + done.stderr


def test_a_changed_search_reruns_what_it_serves(copied):
    copied.edit("workflow/onebasin/matching/ste.py", "HALF = 0.5", "HALF = 0.4")
    planned = copied.planned()
    assert rules(planned, "train", "match", "measure_trial[acceleration]") == {"match_each[ste]"}
    assert planned["merge"] == 2


def test_a_changed_solver_reruns_all_searches_but_the_naive_one(copied):
    copied.edit("workflow/onebasin/matching/cost.py", "MOST_MENDED = 0.5", "MOST_MENDED = 0.4")
    planned = copied.planned()
    assert rules(planned, "train", "match") == {"match[weight_matching]", "match_each[ste]", "match[ste_mm]"}


def test_a_changed_figure_reruns_figures_alone(copied):
    copied.edit("workflow/onebasin/figures/landscape.py", "\n\n\ndef ", "\n\nX = 1\n\n\ndef ")
    assert set(copied.planned()) == {"figures"}


def test_a_changed_measure_reruns_that_measure_alone(copied):
    copied.edit("workflow/onebasin/measures/taylor.py", "MIDPOINT = 0.5", "MIDPOINT = 0.25 + 0.25")
    assert set(copied.planned()) - {*END} == {"measure_search[geometry]", "tables", "figures"}


def test_another_treatment_of_statistics_searches_nothing_again(copied):
    copied.edit("small.yaml", "    trials: 2\n", "    trials: 2\n    normalization: {images: 500}\n")
    planned = copied.planned()
    assert rules(planned, "train", "match", "symmetries") == set()
    assert {"merge", "measure_search[evaluation]", "measure_trial[truncation]"} <= set(planned)
    assert not {"measure_experiment[spectra]", "measure_trial[parents_sharpness]"} & set(planned)


def test_other_words_of_a_figure_rerun_nothing(copied):
    copied.edit("workflow/onebasin/registry/figure.toml", "Loss and accuracy of the average", "The average's loss")
    done = copied.run("--dry-run")
    assert "Nothing to be done" in done.stdout + done.stderr


def test_another_record_of_a_table_makes_the_tables_anew(copied):
    copied.edit(
        "workflow/onebasin/registry/measure.toml",
        'barrier_loss = 4 }\nwords = "Merged',
        'barrier_loss = 3 }\nwords = "Merged',
    )
    assert {"tables", "figures"} <= set(copied.planned()) <= {"tables", "figures", *END}


def test_copied_results_are_up_to_date_without_snakemakes_memory(copied):
    shutil.rmtree(copied.folder / ".snakemake")
    done = copied.run("--dry-run")
    assert "Nothing to be done" in done.stdout + done.stderr

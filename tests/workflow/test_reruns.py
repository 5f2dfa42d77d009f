"""What a change makes run again: all that depends on it, and nothing else."""

import shutil

import pytest

pytestmark = pytest.mark.exhaustive

MERGED = ("merge_small", "evaluate_small", "sharpness_small", "landscape_small", "geometry_small")
END = ("claims", "provenance")


def rules(planned, *prefixes):
    return {name for name in planned if name.startswith(prefixes)}


def test_a_new_seed_trains_alone(copied):
    copied.edit("small.yaml", "seeds: [0, 1, 2, 3, 4, 5]", "seeds: [0, 1, 2, 3, 4, 5, 6]")
    shown = {"tables_small": 1, "figures_small": 1}
    assert copied.planned() == {"train_small_6": 1} | shown | dict.fromkeys(END, 1)


def test_a_new_seed_of_a_half_full_stack_trains_alone(copied):
    """Seeds 4 and 5 left room in their stack of four; a new seed that joined them would train them again."""
    copied.edit("small.yaml", "seeds: [0, 1, 2, 3, 4, 5]", "seeds: [7, 0, 1, 2, 3, 4, 5]")
    copied.edit("small.yaml", "trials: 2", "trials: 1")  # the trials' models are another matter
    copied.edit("small.yaml", "counts: [2, 3]", "counts: [2]")
    assert rules(copied.planned(), "train") == {"train_small_7"}


def test_more_seeds_a_job_train_nothing_again(copied):
    copied.edit("small.yaml", "seeds_per_job: 4", "seeds_per_job: 2")
    assert rules(copied.planned(), "train", "match", "merge") == set()


def test_resources_rerun_nothing(copied):
    needs = "{match: {mem_mb: 32000, runtime: 600}, sharpness: {mem_mb: 8000}, train: {runtime: 1}}"
    copied.edit("small.yaml", "    trials: 2\n", f"    trials: 2\n    resources: {needs}\n")
    done = copied.run("--dry-run")
    assert "Nothing to be done" in done.stdout + done.stderr


def test_a_setting_of_a_method_reruns_that_method(copied):
    copied.edit("small.yaml", "ste_mm: {epochs: 2}", "ste_mm: {epochs: 3}")
    planned = copied.planned()
    assert rules(planned, "train", "match") == {"match_small_ste_mm"}
    assert planned["match_small_ste_mm"] == 4
    assert [planned[name] for name in MERGED] == [2, 2, 2, 1, 2]  # one a trial, for all methods
    assert "sharpness_parents_small" not in planned


def test_a_setting_of_the_sharpness_reruns_no_search(copied):
    copied.edit("small.yaml", "probes: 4", "probes: 5")
    assert set(copied.planned()) - {*END} == {
        *("sharpness_small", "sharpness_parents_small", "tables_small", "figures_small"),
    }


def test_a_setting_of_the_analysis_reruns_what_it_is_for(copied):
    copied.edit("small.yaml", "    trials: 2\n", "    trials: 2\n    analysis: {truncation: [0, 0.5]}\n")
    assert set(copied.planned()) - {*END} == {
        *("truncation_small", "tables_small", "figures_small"),
    }


def test_a_new_method_reruns_no_other(copied):
    copied.edit("workflow/onebasin/registry/figure.toml", "merged =", "# a comment\nmerged =")
    shutil.copy(copied.folder / "workflow/onebasin/matching/naive.py", copied.folder / "mine.py")
    copied.edit("small.yaml", "      naive: {}\n", '      naive: {}\n      own: {function: "mine:naive"}\n')
    assert rules(copied.planned(), "train", "match") == {"match_small_own"}


def test_a_comment_reruns_nothing(copied):
    copied.edit("workflow/onebasin/matching/ste_mm.py", "    steps = 0\n", "    # how often\n    steps = 0\n\n")
    copied.edit("workflow/onebasin/training.py", '"""Train one model a seed', '"""Train a model for every seed')
    copied.edit("workflow/scripts/train.py", '"""Train', '# a remark\n"""Train')
    done = copied.run("--dry-run")
    assert "Nothing to be done" in done.stdout + done.stderr


def test_a_changed_search_reruns_what_it_serves(copied):
    copied.edit("workflow/onebasin/matching/ste.py", "HALF = 0.5", "HALF = 0.4")
    planned = copied.planned()
    assert rules(planned, "train", "match", "acceleration") == {"match_small_ste"}
    assert planned["merge_small"] == 2


def test_a_changed_solver_reruns_all_searches_but_the_naive_one(copied):
    copied.edit("workflow/onebasin/matching/cost.py", "MOST_MENDED = 0.5", "MOST_MENDED = 0.4")
    planned = copied.planned()
    assert rules(planned, "train", "match") == {"match_small_weight_matching", "match_small_ste", "match_small_ste_mm"}


def test_a_changed_figure_reruns_figures_alone(copied):
    copied.edit("workflow/onebasin/figures/landscape.py", "\n\n\ndef ", "\n\nX = 1\n\n\ndef ")
    assert set(copied.planned()) == {"figures_small"}


def test_copied_results_are_up_to_date_without_snakemakes_memory(copied):
    shutil.rmtree(copied.folder / ".snakemake")
    done = copied.run("--dry-run")
    assert "Nothing to be done" in done.stdout + done.stderr

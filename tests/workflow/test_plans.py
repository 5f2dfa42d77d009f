"""What a run would do, by dry runs: on a cluster, with every configuration that is shipped, with many jobs."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

CONFIGS = Path(__file__).parents[2] / "config"
SHIPPED = sorted(path.name for path in CONFIGS.glob("*.yaml") if "experiments" in yaml.safe_load(path.read_text()))
SLURM = ("--dry-run", "--profile", "workflow/profiles/slurm")
needs_plugin = pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_slurm") is None,
    reason="needs snakemake-executor-plugin-slurm",
)


def groups_of(clone, plan):
    """The jobs of each group that a dry run prints."""
    blocks = re.findall(r"Group job \w+ .*:\n((?: .*\n|\n)+)", plan)
    return [sorted(job["name"] for job in clone.jobs_of(block)) for block in blocks]


@pytest.mark.exhaustive
@needs_plugin
@pytest.mark.parametrize("config", SHIPPED)
def test_a_cluster_takes_every_configuration_that_is_shipped(fresh, config):
    done = fresh.run(*SLURM, config=f"config/{config}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "This was a dry-run" in done.stdout + done.stderr


@needs_plugin
def test_an_experiment_says_what_its_stages_need(fresh):
    need = "{match: {mem_mb: 32000, runtime: 600}, sharpness: {mem_mb: 8000}}"
    fresh.edit("small.yaml", "    trials: 2\n", f"    trials: 2\n    resources: {need}\n")
    done = fresh.run(*SLURM)
    plan = done.stdout + done.stderr
    for rule, needs in [
        ("match_each[ste]", {"mem_mb=32000", "runtime=600"}),
        ("measure_search[sharpness]", {"mem_mb=8000", "runtime=240"}),  # four methods, one after the other
        ("measure_search[evaluation]", {"mem_mb=1500", "runtime=120"}),
    ]:
        found = [set(job["resources"].split(", ")) for job in fresh.jobs_of(plan) if job["name"] == rule]
        assert found
        assert all(needs <= own for own in found)


@needs_plugin
def test_a_stage_that_is_not_small_has_jobs_of_its_own(fresh):
    """And what is left of a trial's group is three jobs."""
    fresh.edit("small.yaml", "    trials: 2\n", "    trials: 2\n    resources: {sharpness: {runtime: 300}}\n")
    done = fresh.run(*SLURM)
    assert (
        groups_of(fresh, done.stdout + done.stderr)
        == [["measure_search[evaluation]", "measure_search[geometry]", "merge"]] * 2
    )


@needs_plugin
def test_with_a_gpu_only_jobs_that_wait_for_each_other_share_one(fresh):
    done = fresh.run(*SLURM, "--config", "device=cuda")
    plan = done.stdout + done.stderr
    assert groups_of(fresh, plan) == [["measure_search[evaluation]", "merge"]] * 2
    gpus = {
        job["name"]: re.search(r"gpu=\d", job["resources"])[0]
        for job in fresh.jobs_of(plan)
        if "gpu=" in job["resources"]
    }
    assert (gpus["train_0_3"], gpus["measure_search[sharpness]"], gpus["tables"]) == ("gpu=1", "gpu=1", "gpu=0")


@pytest.mark.exhaustive
def test_a_thousand_jobs_are_planned(fresh):
    """How many follow from the configuration; README, On a cluster, says how long ten times as many take."""
    config = yaml.safe_load((fresh.folder / "small.yaml").read_text())
    seeds, counts, trials = 200, [2, 3, 4, 5], 40
    config["experiments"]["small"] |= {"seeds": list(range(seeds)), "counts": counts, "trials": trials}
    config["experiments"]["small"]["methods_per_job"] = 1
    (fresh.folder / "small.yaml").write_text(yaml.safe_dump(config))
    planned = fresh.planned()
    assert sum(number for rule, number in planned.items() if rule.startswith("train")) == seeds
    assert planned["match[ste_mm]"] == len(counts) * trials
    assert planned["match_each[ste]"] == trials
    for measure in ("acceleration", "parents_sharpness", "three_models", "truncation"):
        assert planned[f"measure_trial[{measure}]"] == trials
    for measure in ("evaluation", "sharpness", "geometry"):
        assert planned[f"measure_search[{measure}]"] == 4 * trials  # a job a method
    assert sum(number for rule, number in planned.items() if rule.startswith("merge")) == 4 * trials
    assert planned.total() > 1000


def test_a_method_may_be_model_by_model_in_one_experiment_and_not_in_another(fresh):
    mine = "mine: {function: 'onebasin.matching.naive:naive'"
    fresh.edit("small.yaml", "      naive: {}\n", f"      naive: {{}}\n      {mine}, model_by_model: true}}\n")
    other = f"""
  other:
    data: {{name: digits}}
    network: {{name: mlp, width: 8, depth: 1}}
    training: {{optimizer: adam, lr: 0.003, batch: 100, epochs: 1}}
    seeds: [0-1]
    counts: [2]
    trials: 1
    methods:
      {mine}}}
"""
    fresh.edit("small.yaml", "    acceleration: {epochs: 1}\n", f"    acceleration: {{epochs: 1}}{other}")
    done = fresh.run("--dry-run")
    assert done.returncode == 0, done.stderr[-3000:]
    found = {"small": set(), "other": set()}
    for job in fresh.jobs_of(done.stdout + done.stderr):
        for name in found:
            if f"results/{name}/permutations/mine/" in job.get("output", ""):
                found[name].add(re.sub(r"(_\d+)?\[.*", "", job["name"]))
    assert found == {"small": {"match_each"}, "other": {"match"}}

"""The warm start saves work and changes nothing."""

import pytest
from networks_for_tests import few_digits, random_data, random_mlps, spec_of, stream, trained_mlps

from onebasin import seeding
from onebasin.matching.ste_mm import ste_mm
from onebasin.measures import acceleration
from onebasin.measures.acceleration import compare_warm_start
from onebasin.merging.average import aligned_models
from onebasin.parameters import mean
from onebasin.tables.record import table

SETTINGS = {"epochs": 2, "batch": 50, "lr": 0.001, "weights": "random", "first_sweep": "signal"}


@pytest.fixture(scope="module")
def compared():
    models, data = trained_mlps(), few_digits()
    return compare_warm_start(models, spec_of(models), data, SETTINGS, "acceleration", 0)


def test_there_is_a_row_with_warm_start_and_one_without_in_the_contracts_columns(compared):
    assert compared["warm_start"].tolist() == [True, False]
    run = set(table("timing").keys)  # which experiment, method, count and trial: the caller's to add
    assert set(compared.columns) == set(table("acceleration").columns) - run


def test_the_permutations_are_identical_and_took_fewer_row_scans(compared):
    warm, cold = compared.to_dict("records")
    assert warm["identical"]
    assert cold["identical"]
    assert warm["objective"] == cold["objective"] > 0
    assert warm["steps"] == cold["steps"] == 2 * 8
    assert warm["assignments"] == cold["assignments"]
    assert warm["row_scans"] < cold["row_scans"]


def test_the_objective_is_the_mean_squared_distance_of_the_permuted_models_to_their_mean(compared):
    models, data = trained_mlps(), few_digits()
    draws = seeding.generator("acceleration", 0)
    found = ste_mm(models, spec_of(models), data, {**SETTINGS, "warm_start": True}, draws)
    permuted = aligned_models(models, spec_of(models), found)
    centre = mean(permuted.parameters)
    distances = [
        sum(float((tensor.double() - centre[name]).square().sum()) for name, tensor in permuted[model].items())
        for model in range(len(models))
    ]
    assert compared["objective"].tolist() == pytest.approx([sum(distances) / len(models)] * 2, rel=1e-6)
    assert compared["row_scans"].iloc[0] == found.work["row_scans"]


def test_other_permutations_without_warm_start_are_reported(monkeypatch):
    models, data = random_mlps(3), random_data()

    def search(models, spec, data, settings, generator):
        return ste_mm(models, spec, data, settings, generator if settings["warm_start"] else stream("another"))

    monkeypatch.setattr(acceleration, "ste_mm", search)
    settings = {**SETTINGS, "batch": 8, "lr": 0.5}
    found = compare_warm_start(models, spec_of(models), data, settings, "acceleration")
    assert found["identical"].tolist() == [True, False]

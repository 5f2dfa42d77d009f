"""Studies: what `vary` stands for."""

import pytest

from onebasin.config.study import expand
from onebasin.errors import OnebasinError

OWN = {"network": {"name": "mlp", "width": 8}, "seed": 0}


def test_an_experiment_is_made_of_every_combination_and_named_by_it():
    vary = {"network.width": [8, 16], "training.augmentation": [None, {"flip": True}]}
    found, studies = expand({"plain": OWN, "wide": {**OWN, "vary": vary}})
    assert list(found) == [
        *("plain", "wide_width_8_augmentation_none", "wide_width_8_augmentation_flip_true"),
        *("wide_width_16_augmentation_none", "wide_width_16_augmentation_flip_true"),
    ]
    last = found["wide_width_16_augmentation_flip_true"]
    assert last == {"network": {"name": "mlp", "width": 16}, "training": {"augmentation": {"flip": True}}, "seed": 0}
    assert studies["wide"].columns == ["width", "augmentation"]
    assert studies["wide"].varied["wide_width_8_augmentation_none"] == {"width": 8, "augmentation": "None"}
    assert found["plain"] is OWN
    assert OWN["network"]["width"] == 8


def test_settings_that_end_alike_have_columns_of_their_whole_names():
    _, studies = expand({"wide": {**OWN, "vary": {"data.seed": [1], "seed": [2]}}})
    assert studies["wide"].columns == ["data_seed", "seed"]


def test_values_may_have_names_which_tables_and_experiments_are_called_by():
    found, studies = expand(
        {"wide": {**OWN, "vary": {"training.spawn": {"alone": {"epochs": 0}, "Shared 5": {"epochs": 5}}}}}
    )
    assert list(found) == ["wide_spawn_alone", "wide_spawn_shared_5"]
    assert found["wide_spawn_shared_5"]["training"]["spawn"] == {"epochs": 5}
    assert studies["wide"].varied["wide_spawn_shared_5"] == {"spawn": "Shared 5"}


@pytest.mark.parametrize(
    ("vary", "says"),
    [
        ([8, 16], "{network.width: [16, 64]}"),
        ({"network.width": 8}, "not settings with lists of values"),
        ({"network.width": {}}, "not settings with lists of values"),
        ({"network.width": []}, "not settings with lists of values"),
        ({"seed.width": [1]}, "vary.seed.width: seed holds no settings"),
        ({"network.width": [8, "8"]}, "more than one experiment would be called wide_width_8"),
    ],
)
def test_what_cannot_be_varied_is_refused_in_one_line(vary, says):
    with pytest.raises(OnebasinError) as caught:
        expand({"wide": {**OWN, "vary": vary}})
    assert says in str(caught.value)
    assert "experiments.wide.vary" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1

"""Settings outside a configuration file are those of its schema."""

import pytest

from onebasin.config.schema import default_of, schema
from onebasin.config.settings import (
    data_settings,
    method_settings,
    needs_data,
    network_settings,
    parse_named,
    parse_setting,
    stage_settings,
)
from onebasin.errors import OnebasinError
from onebasin.registry import entries


def refusal(function, *arguments):
    with pytest.raises(OnebasinError) as caught:
        function(*arguments)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("method", entries("method"))
def test_a_method_has_the_schemas_defaults(method):
    properties, defs = entries("method")[method].get("settings", {}), schema()["$defs"]
    whole = {key: own | defs.get(own.get("$ref", "").removeprefix("#/$defs/"), {}) for key, own in properties.items()}
    assert method_settings(method, {}) == {key: own["default"] for key, own in whole.items() if "default" in own}


def test_what_is_given_stands_and_the_rest_is_completed():
    found = method_settings("ste_mm", {"epochs": 3})
    assert found["epochs"] == 3
    assert found["batch"] == method_settings("ste_mm", {})["batch"]
    assert network_settings("mlp", {"width": 7}) == {"name": "mlp", "width": 7, "depth": 3}
    assert data_settings("digits", {})["test_fraction"] == 0.2
    assert stage_settings("interpolation", points=None) == {"points": 11}
    assert (default_of("threads"), default_of("device")) == (1, "cpu")


def test_settings_of_an_own_method_or_network_are_left_as_they_are():
    assert method_settings("mine:search", {"speed": 2}) == {"speed": 2}
    assert network_settings("mine:net", {"width": "w"}) == {"name": "mine:net", "width": "w"}


@pytest.mark.parametrize(
    ("function", "name", "given", "says"),
    [
        (method_settings, "ste_mm", {"epoch": 3}, "epoch: no such key; did you mean epochs?"),
        (method_settings, "ste_mm", {"epochs": 0}, "epochs: 0 is less than the minimum"),
        (method_settings, "naive", {"epochs": 1}, "epochs: no such key"),
        (method_settings, "weight_maching", {}, "did you mean weight_matching?"),
        (network_settings, "mlp", {"width": "wide"}, "width: 'wide' is not of type 'integer'"),
        (network_settings, "resnet21", {}, "did you mean resnet20?"),
        (data_settings, "digit", {}, "did you mean digits?"),
        (data_settings, "image_folder", {"root": "x"}, "'size' is a required property"),
    ],
)
def test_what_the_schema_refuses_is_refused_in_one_line(function, name, given, says):
    assert says in refusal(function, name, given)


@pytest.mark.parametrize(
    ("text", "name", "given"),
    [
        ("mlp", "mlp", {}),
        ("mlp:width=512,depth=3", "mlp", {"width": 512, "depth": 3}),
        ("package.module:callable", "package.module:callable", {}),
        ("torchvision.models:resnet18:num_classes=10", "torchvision.models:resnet18", {"num_classes": 10}),
        ("image_folder:root=a:b/c,d,size=32", "image_folder", {"root": "a:b/c,d", "size": 32}),
        ("a/folder", "a/folder", {}),
    ],
)
def test_a_name_is_told_from_its_settings(text, name, given):
    assert parse_named(text) == (name, given)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("0.5", 0.5),
        ("10", 10),
        ("true", True),
        ("null", None),
        ("random", "random"),
        ("{crop: 4, flip: true}", {"crop": 4, "flip": True}),
        ("a=b", "a=b"),
    ],
)
def test_values_are_what_they_look_like(text, value):
    key, found = parse_setting(f"key={text}")
    assert (key, found) == ("key", value)
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["epochs", "=3", "lr=.nan", "lr=.inf", "lr=1e999", "augmentation={crop: 4"])
def test_what_is_no_setting_is_refused(text):
    refusal(parse_setting, text)


def test_methods_say_whether_they_read_data():
    assert [needs_data(method) for method in ("naive", "weight_matching", "ste", "ste_mm")] == [
        False,
        False,
        True,
        True,
    ]
    assert not needs_data("mine:search")

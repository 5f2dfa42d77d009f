"""Every figure draws, says its units, repeats byte for byte, and survives tables with little in them."""

import importlib
import subprocess
import sys
from itertools import combinations, permutations, product

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from onebasin.errors import OnebasinError
from onebasin.figures import style
from onebasin.figures.pairwise_matrix import barrier_matrix
from onebasin.registry import entries
from onebasin.tables.record import table

FIGURES = entries("figure")

PARENTS = 0.11
# loss added by each further model
GROWTH = {
    "naive": 0.78,
    "weight_matching": 0.016,
    "activation_matching": 0.026,
    "c2m3": 0.014,
    "ste": 0.009,
    "ste_mm": 0.0025,
}
BARRIER = {
    "naive": 1.4,
    "weight_matching": 0.03,
    "activation_matching": 0.05,
    "c2m3": 0.02,
    "ste": 0.011,
    "ste_mm": 0.0025,
}


def make_tables(counts=(2, 3, 4, 5), trials=3, splits=("test", "train"), methods=tuple(GROWTH), seed=0):
    """Tables of one made-up experiment whose numbers are of the size that small networks on digits give."""
    random = np.random.default_rng(seed)
    keys = [
        {"experiment": "toy", "method": m, "count": n, "trial": t, "split": s}
        for m in methods
        for n in counts
        for t in range(trials)
        for s in splits
    ]
    makers = {
        "merged": _merged,
        "pairwise": _pairwise,
        "interpolation": _interpolation,
        "sharpness": _sharpness,
        "top_eigenvalue": _top_eigenvalue,
        "distance": _distance,
        "taylor": _taylor,
        "alignment": _alignment,
        "three_models": _three_models,
        "truncation": _truncation,
        "llfc": _llfc,
        "stitching": _stitching,
        "robustness": _robustness,
        "calibration": _calibration,
        "lewc": _lewc,
        "expert_order": _expert_order,
    }
    tables = {name: pd.DataFrame([row for key in keys for row in make(key, random)]) for name, make in makers.items()}
    for name in ("distance", "alignment"):  # are not of a split
        tables[name] = tables[name][tables[name]["split"] == splits[0]].drop(columns="split")
    tables["history"] = _history(random, trials * max(counts))
    planes = [{**key, "count": 3} for key in keys if key["count"] == counts[0]]
    seeds = [(trial, model) for trial in range(trials) for model in range(max(counts))]
    tables["singular_values"] = pd.DataFrame([row for place in seeds for row in _singular_values(*place, random)])
    tables["responses"] = tables["singular_values"].rename(columns={"value": "singular_value"})
    tables["responses"] = tables["responses"].assign(
        split=splits[0], response=tables["responses"]["singular_value"] / 3
    )
    tables["landscape"] = pd.DataFrame([row for key in planes for row in _landscape(key)])
    tables["path"] = pd.DataFrame([row for place in seeds for row in _path(*place, splits[0])])
    tables["variational"] = pd.DataFrame([row for trial in range(trials) for row in _variational(trial)])
    return tables


def _history(random, seeds, epochs=12):
    rows = []
    for seed in range(seeds):
        for epoch in range(1, epochs + 1):
            losses = [level + 2 * np.exp(-epoch / 3) * random.lognormal(0, 0.1) for level in (0.02, 0.1)]
            rows.append(("toy", seed, epoch, 0.1, losses[0], _accuracy(losses[0]), losses[1], _accuracy(losses[1])))
    return pd.DataFrame(rows, columns=list(table("history").columns))


def _accuracy(loss):
    return float(np.clip(1 - 0.27 * loss, 0.1, 1))


def _seeds(key):
    return [10 * key["trial"] + model for model in range(1, key["count"] + 1)]


def _barrier(key, random):
    size = BARRIER.get(key["method"], 0.02) * random.lognormal(0, 0.4)
    return 0.0 if size < 0.0016 else size


def _merged(key, random):
    scale = 1.0 if key["split"] == "test" else 0.2
    parents = scale * PARENTS * random.lognormal(0, 0.03)
    loss = parents + scale * GROWTH.get(key["method"], 0.012) * (key["count"] - 1) ** 0.7 * random.lognormal(0, 0.15)
    ensemble = 0.85 * parents
    losses = {"loss": loss, "parents_loss": parents, "barrier_loss": loss - parents, "ensemble_loss": ensemble}
    accuracies = {name.replace("loss", "accuracy"): _accuracy(value) for name, value in losses.items()}
    yield {**key, **losses, **accuracies}


def _pairwise(key, random):
    for a, b in combinations(_seeds(key), 2):
        barrier = _barrier(key, random)
        yield {**key, "model_a": str(a), "model_b": str(b), "barrier_loss": barrier, "barrier_accuracy": 0.2 * barrier}


def _interpolation(key, random):
    for a, b in combinations(_seeds(key), 2):
        barrier = _barrier(key, random)
        for weight in np.linspace(0, 1, 11):
            loss = PARENTS + barrier * 4 * weight * (1 - weight)
            place = {"model_a": str(a), "model_b": str(b), "weight_b": weight}
            yield {**key, **place, "loss": loss, "accuracy": _accuracy(loss)}


def _curvatures(key, random):
    flatter = {"naive": 0.2, "weight_matching": 0.7, "ste": 0.8, "ste_mm": 1.0}.get(key["method"], 0.6)
    yield "merged", key["count"] ** -flatter * random.lognormal(0, 0.06)
    for seed in _seeds(key):
        yield str(seed), random.lognormal(0, 0.08)


def _sharpness(key, random):
    for model, curvature in _curvatures(key, random):
        for estimator, size in (("trace", 900.0), ("scaled_trace", 40.0)):
            value = size * curvature
            measured = {"value": value, "standard_error": 0.04 * value, "probes": 100}
            yield {**key, "model": model, "estimator": estimator, **measured}


def _top_eigenvalue(key, random):
    for model, curvature in _curvatures(key, random):
        yield {**key, "model": model, "value": 25 * curvature, "residual": 1e-3}


def _distance(key, _):
    for a, b in combinations(_seeds(key), 2):
        reduction = 0.0 if key["method"] == "naive" else 0.15
        distances = {"distance_before": 40.0, "distance": 40 * (1 - reduction), "reduction": reduction}
        yield {**key, "model_a": a, "model_b": b, **distances}


def _taylor(key, random):
    for a, b in combinations(_seeds(key), 2):
        barrier = _barrier(key, random)
        for weight in np.linspace(0.1, 0.9, 9):
            measured = 4 * barrier * weight * (1 - weight)
            place = {"model_a": a, "model_b": b, "weight_b": weight}
            yield {**key, **place, "measured": measured, "estimate": measured / 3, "recomputed": measured / 2}


def _alignment(key, random):
    pairs = [*combinations(_seeds(key), 2), *((seed, "merged") for seed in _seeds(key))]
    for (a, b), layer, gamma in product(pairs, ("conv1", "block.conv2", "out", "total"), (0.0, 0.3, 0.9)):
        value = 0.01 * random.random() if key["method"] == "naive" else 0.1 + gamma / 2
        before = np.nan if b == "merged" else 0.01
        place = {"model_a": a, "model_b": b, "layer": layer, "gamma": gamma, "kept": 10.0}
        yield {**key, **place, "alignment": value, "alignment_before": before}


def _three_models(key, random):
    for a, b in combinations(range(1, max(key["count"], 3)), 2):
        excess = {"barrier_loss": _barrier(key, random), "barrier_accuracy": 0.0}
        yield {**key, "count": max(key["count"], 3), "model_a": a, "model_b": b, **excess}


def _truncation(key, random):
    first, *others = _seeds(key)
    for other, gamma in product(others, (0.0, 0.5, 0.9)):
        excess = {"barrier_loss": 10**gamma * _barrier(key, random), "barrier_accuracy": 0.0}
        place = {"method": "weight_matching", "count": 2, "model_a": first, "model_b": other}
        yield {**key, **place, "gamma": gamma, "kept_share": 1 - gamma, **excess}


def _llfc(key, random):
    for a, b in combinations(_seeds(key), 2):
        for layer, far in (("conv1", 0.0), ("block.conv2", 1.0), ("out", 0.5)):
            values = {"dissimilarity": far * _barrier(key, random), "baseline": 0.5, "coefficient": 1.0}
            yield {**key, "model_a": a, "model_b": b, "weight_b": 0.5, "layer": layer, **values}


def _stitching(key, random):
    for a, b in permutations(_seeds(key), 2):
        for layer in ("conv1", "block.conv2"):
            yield {**key, "model_a": a, "model_b": b, "layer": layer, "loss": 0.2, "accuracy": 0.9 * random.random()}


def _robustness(key, random):
    for model in ("merged", "rescaled", *map(str, _seeds(key))):
        for attack, strength in (("clean", 0.0), ("fgsm", 0.05), ("pgd", 0.05), ("noise", 0.2)):
            case = {"model": model, "attack": attack, "strength": strength}
            yield {**key, **case, "loss": 0.3, "accuracy": 0.8 + 0.1 * random.random()}


def _widths(key):
    """The keys of a study's tables, its varied columns in their place."""
    for depth, width in product((1, 2), (16, 64, 256)):
        yield {"experiment": "toy", "depth": depth, "width": width, **key}


def _calibration(key, random):
    for case in _widths(key):
        barrier = _barrier(key, random) * 16 / case["width"]
        shown = {"barrier_accuracy": barrier / 5, "barrier_loss": barrier, "barrier_calibrated": barrier / 4 - 0.01}
        yield {**case, **shown, "agreement": 1 / (1 + barrier)}


def _lewc(key, random):
    for case in _widths(key):
        for (layer, far), model_b in product((("conv1", 0.0), ("out", 1.0)), ("merged", "1")):
            residuals = {
                "residual": far * random.random(),
                "plain_residual": far * key["count"],
                "random_residual": 1.4,
            }
            yield {**case, "layer": layer, "model_a": "0", "model_b": model_b, "weight_b": 0.5, **residuals}


def _expert_order(key, random):
    for gating in ("dense", "top_2"):
        barriers = {"barrier_loss": 0.1, "naive_barrier_loss": 0.4, "least": 0.09, "median": 0.3, "output_change": 0.0}
        found = {"orders": 24, "rank": random.integers(1, 25), "remaining": random.random(), **barriers}
        yield {"experiment": "toy", "gating": gating, **key, "group": "experts.*.0", **found}


def _singular_values(trial, model, random, size=8):
    for layer in ("conv1", "block.conv2", "out"):
        for rank, value in enumerate(np.geomspace(3, 1, size) + 0.02 * random.random(size)):
            yield {"experiment": "toy", "trial": trial, "model": model, "layer": layer, "rank": rank, "value": value}


def _landscape(key):
    spread = 30.0 if key["method"] == "naive" else 18.0
    corners = np.array([[0.0, 0.0], [spread, 0.0], [0.5 * spread, 0.87 * spread]])
    height = 3 * BARRIER.get(key["method"], 0.02)
    axis = np.linspace(-0.3 * spread, 1.3 * spread, 13)
    points = [("grid", x, y) for x in axis for y in axis]
    points += [(str(seed), *corner) for seed, corner in zip(_seeds(key), corners, strict=True)]
    points.append(("merged", *corners.mean(axis=0)))
    for point, x, y in points:
        away = np.linalg.norm(corners - [x, y], axis=1).min() / spread
        outside = np.linalg.norm(corners.mean(axis=0) - [x, y]) / spread
        loss = PARENTS + height * (1 - np.exp(-6 * away**2)) + 1.5 * outside**4
        yield {**key, "point": point, "x": x, "y": y, "loss": loss, "accuracy": _accuracy(loss)}


def _path(trial, model, split):
    for weight in np.linspace(0, 1, 5):
        loss = 2.3 * (1 - weight) + 0.1 + 0.01 * model
        known = {"experiment": "toy", "trial": trial, "model": model, "split": split, "weight": weight}
        yield {**known, "loss": loss, "accuracy": _accuracy(loss)}


def _variational(trial, epochs=6):
    for epoch, split in product(range(1, epochs + 1), ("train", "test")):
        loss = 1.5 / epoch + 0.1 * trial + (0.2 if split == "test" else 0)
        known = {"experiment": "toy", "trial": trial, "split": split, "epoch": epoch}
        yield {**known, "loss": loss, "accuracy": _accuracy(loss), "divergence": 0.1 * epoch}


def study_of(tables):
    """Tables of a study in which two experiments differ in a setting."""
    return {
        name: pd.concat([table.assign(asymmetry=kind) for kind in ("standard", "w")], ignore_index=True)
        for name, table in tables.items()
    }


def draw(name, tables):
    if FIGURES[name].get("of") == "studies":
        tables = study_of(tables)
    module, _, function = FIGURES[name]["function"].partition(":")
    return getattr(importlib.import_module(module), function)(tables)


@pytest.fixture(scope="module")
def tables():
    return make_tables()


@pytest.fixture(scope="module")
def drawn(tables):
    return {name: draw(name, tables) for name in FIGURES}


@pytest.fixture(params=FIGURES)
def name(request):
    return request.param


def panels_of(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def words_of(figure):
    """All text beside the axes of `figure`."""
    labels = [label for axes in panels_of(figure) for label in (axes.get_xlabel(), axes.get_ylabel())]
    return [*labels, figure.get_supxlabel(), figure.get_supylabel()]


def is_named(figure, axes):
    """Whether both axes have a name: their own, or one that all panels share; a colour bar needs one only."""
    if axes.get_label() == "<colorbar>":
        return bool(axes.get_ylabel())
    return all((axes.get_xlabel() or figure.get_supxlabel(), axes.get_ylabel() or figure.get_supylabel()))


def colours_in_legend(figure):
    return {
        text.get_text(): to_hex(handle.get_color())
        for legend in figure.legends
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
        if hasattr(handle, "get_color")
    }


def test_every_axis_has_a_name_and_every_quantity_a_unit(drawn, name):
    figure = drawn[name]
    assert all(is_named(figure, axes) for axes in panels_of(figure))
    words = [word for word in words_of(figure) if any(what in word for what in ("loss", "accuracy", "distance"))]
    assert words or "Why" in FIGURES[name].get("group", "")  # singular values and alignment have no unit
    assert all(any(unit in word for unit in ("(nats)", "(%)", "norm)")) for word in words)


def test_no_text_is_smaller_than_seven_points_and_the_figure_fills_the_page(drawn, name):
    figure = drawn[name]
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(mpl.text.Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in texts) >= 7
    assert figure.get_figwidth() == 6.75
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert not any(box.overlaps(axes.get_window_extent()) for axes in panels_of(figure))


@pytest.mark.parametrize("number", range(2, 15))
def test_a_legend_fits_the_page_whatever_its_labels(number):
    labels = ["learned", "permutation matching", "naive", "transformer matching", "learned from identity"]
    with mpl.rc_context(style.RC):
        figure = mpl.figure.Figure(figsize=(6.75, 2), layout="constrained")
        figure.subplots()
        style.legend_above(figure, [mpl.lines.Line2D([], [], label=labels[i % len(labels)]) for i in range(number)])
        figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


def test_the_same_tables_give_the_same_bytes(tables, drawn, name, tmp_path):
    again = draw(name, tables)
    for suffix in ("pdf", "png"):
        style.save(drawn[name], tmp_path / f"first.{suffix}")
        style.save(again, tmp_path / f"second.{suffix}")
        assert (tmp_path / f"first.{suffix}").read_bytes() == (tmp_path / f"second.{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 4  # nothing is left beside them


def test_a_pdf_holds_no_date_and_no_program(drawn, tmp_path):
    style.save(drawn["merged"], tmp_path / "figure.pdf")
    written = (tmp_path / "figure.pdf").read_bytes()
    assert not any(word in written for word in (b"CreationDate", b"Producer", b"Creator"))


def test_figures_are_written_as_pdf_or_png_only(drawn, tmp_path):
    with pytest.raises(OnebasinError, match=r"figure\.jpg.*\.pdf or \.png"):
        style.save(drawn["merged"], tmp_path / "figure.jpg")


def test_a_method_has_one_colour_in_all_figures(drawn):
    found = [colours_in_legend(figure) for figure in drawn.values()]
    for method in GROWTH:
        colours = {colours[style.method_label(method)] for colours in found if style.method_label(method) in colours}
        assert colours == {style.method_style(method).colour}


def test_the_built_in_methods_differ_in_grey_by_marker_and_by_dashes():
    looks = list(style.METHODS.values())
    greys = sorted(np.dot(mpl.colors.to_rgb(look.colour), (0.299, 0.587, 0.114)) for look in looks)
    assert min(np.diff(greys)) > 0.1
    assert len({look.marker for look in looks}) == len({look.dashes for look in looks}) == len(looks)


def test_the_look_of_a_users_method_depends_on_its_name_alone():
    alone, among = make_tables(methods=("greedy",)), make_tables(methods=(*GROWTH, "adam", "greedy"))
    colours = {colours_in_legend(draw("merged", tables))["greedy"] for tables in (alone, among)}
    assert len(colours) == 1
    assert colours.isdisjoint(look.colour for look in style.METHODS.values())


@pytest.mark.parametrize(
    "settings",
    [
        {"counts": (3,), "trials": 1, "splits": ("test",)},
        {"counts": (2,), "trials": 1, "splits": ("train",), "methods": ("ste_mm",)},
        {"counts": (13,), "trials": 2, "splits": ("test",), "methods": ("naive", "ste_mm", "greedy")},
    ],
    ids=["one-trial-one-count", "one-method-two-models", "many-models"],
)
@pytest.mark.filterwarnings("error")
def test_little_or_much_data_is_drawn_without_a_warning(name, settings):
    figure = draw(name, make_tables(**settings))  # drawing lays out, which renders
    assert all(is_named(figure, axes) for axes in panels_of(figure))


@pytest.mark.filterwarnings("error")
def test_a_method_may_lack_counts_that_others_have_and_all_of_them_trials(name):
    tables = make_tables(trials=1)
    partial = {
        key: table[(table["method"] != "ste") | (table["count"] == table["count"].min())]
        if "method" in table
        else table
        for key, table in tables.items()
    }
    draw(name, partial)


def test_barriers_of_zero_and_losses_of_zero_are_drawn(tables):
    zero = {key: table.copy() for key, table in tables.items()}
    zero["pairwise"]["barrier_loss"] = 0.0
    zero["merged"][["loss", "accuracy"]] = (0.0, 1.0)
    zero["landscape"]["loss"] = 0.0
    zero["three_models"]["barrier_loss"] = zero["truncation"]["barrier_loss"] = 0.0
    zero["taylor"][["measured", "estimate", "recomputed"]] = 0.0
    shown = ("pairwise", "pairwise_matrix", "merged", "landscape", "distance", "alignment_barrier", "three_models")
    for name in (*shown, "truncation", "taylor"):
        draw(name, zero)


@pytest.mark.parametrize(("name", "table"), [(name, table) for name in FIGURES for table in FIGURES[name]["tables"]])
def test_an_empty_or_missing_table_is_named(tables, name, table):
    for bad in ({**tables, table: tables[table].head(0)}, {key: tables[key] for key in tables if key != table}):
        with pytest.raises(OnebasinError, match=f"'{table}' has no rows"):
            draw(name, bad)


@pytest.mark.parametrize("kind", [int, str])
def test_the_matrix_is_symmetric_and_numbers_models_within_their_trial(kind):
    pairs = pd.DataFrame(
        [(0, 7, 9, 1.0), (0, 7, 20, 2.0), (0, 9, 20, 3.0), (1, 1, 2, 3.0), (1, 1, 3, 4.0), (1, 2, 3, 5.0)],
        columns=["trial", "model_a", "model_b", "barrier_loss"],
    )
    matrix = barrier_matrix(pairs.astype({"model_a": kind, "model_b": kind}))
    assert list(matrix.index) == list(matrix.columns) == [1, 2, 3]
    np.testing.assert_array_equal(matrix, [[np.nan, 2, 3], [2, np.nan, 4], [3, 4, np.nan]])


@pytest.mark.parametrize("name", ["merged", "pairwise", "pairwise_matrix"])
def test_drawing_leaves_the_settings_and_the_random_state_of_the_caller_alone(tables, name):
    settings, state = dict(mpl.rcParams), np.random.get_state()[1].copy()  # noqa: NPY002
    draw(name, tables)
    assert dict(mpl.rcParams) == settings
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_the_settings_of_the_caller_do_not_change_a_figure(tables, drawn, tmp_path):
    style.save(drawn["pairwise"], tmp_path / "plain.png")
    with mpl.rc_context({"font.size": 20, "axes.grid": False, "savefig.dpi": 50}):
        style.save(draw("pairwise", tables), tmp_path / "loud.png")
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "loud.png").read_bytes()


def test_the_registry_imports_neither_matplotlib_nor_pandas():
    program = "import sys, onebasin.figures; sys.exit(bool({'matplotlib', 'pandas', 'seaborn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_many_layers_are_thinned_out_evenly_and_keep_their_ends():
    table = pd.DataFrame({"layer": [*(f"layer{number}" for number in range(40)), "total"]})
    shown = style.some_layers(table, at_most=5)
    assert shown == ["layer0", "layer10", "layer20", "layer29", "layer39"]
    assert style.some_layers(table.head(3)) == ["layer0", "layer1", "layer2"]

"""What all figures share: one look a method, axes that name their units, and files that repeat byte for byte.

A method looks the same in every figure, whichever others are drawn beside it: colour, marker and dashes depend on its
name alone. The built-in methods differ in lightness too, so that they can be told apart in grey.
"""

import functools
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, SymmetricalLogLocator

from onebasin.errors import OnebasinError
from onebasin.registry import entries
from onebasin.storage.files import replacing

Tables = Mapping[str, pd.DataFrame]

WIDTH = 6.75  # inches: the text width of a two-column proceedings page

RC: Any = {
    "font.family": "DejaVu Sans",  # ships with Matplotlib: the same letters on every machine
    "mathtext.fontset": "dejavusans",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "figure.labelsize": 8,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 2.5,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "ytick.minor.size": 1.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "svg.hashsalt": "onebasin",
}

QUANTITIES = {"loss": (1.0, "nats"), "accuracy": (100.0, "%")}  # as tables have them: scale and unit to be shown in
LETTER = 0.065  # inches of a letter that stands upright
CROWDED = 8  # layers, whose names lie beside each other no longer
PARENTS_COLOUR = "0.35"
SEQUENTIAL = "mako_r"  # losses and barriers: the darker, the larger


class MethodStyle(NamedTuple):
    """How a method is drawn: `dashes` are lengths on and off, none for a solid line."""

    colour: str
    marker: str
    dashes: tuple[float, ...]


METHODS = {
    "naive": MethodStyle("#808080", "X", (1.2, 1.2)),
    "weight_matching": MethodStyle("#e69f00", "s", (5, 1.5)),
    "activation_matching": MethodStyle("#7fdcc4", "d", (2.5, 1)),
    "c2m3": MethodStyle("#001a33", "v", (5, 1.2, 1.2, 1.2, 1.2, 1.2)),
    "ste": MethodStyle("#0077bb", "^", (5, 1.2, 1.2, 1.2)),
    "ste_mm": MethodStyle("#7a0f3c", "o", ()),
}
LABELS = {"c2m3": "C2M3", "ste": "STE (pairwise)", "ste_mm": "STE-MM"}

OTHER_COLOURS = ("#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#332288", "#999933", "#aa4499", "#44aa99")
OTHER_MARKERS = ("D", "8", "P", "p", "<", "h", ">")
OTHER_DASHES: tuple[tuple[float, ...], ...] = ((3, 1), (7, 1.5), (3, 1, 1, 1, 1, 1), (7, 1, 3, 1), ())


def method_style(name: str) -> MethodStyle:
    """The look of the method `name`; of a user's own, chosen by a checksum of its name alone."""
    if name in METHODS:
        return METHODS[name]
    number = zlib.crc32(name.encode())
    rest, colour = divmod(number, len(OTHER_COLOURS))
    rest, marker = divmod(rest, len(OTHER_MARKERS))
    return MethodStyle(OTHER_COLOURS[colour], OTHER_MARKERS[marker], OTHER_DASHES[rest % len(OTHER_DASHES)])


def method_label(name: str) -> str:
    """What a reader sees instead of `name`."""
    return LABELS.get(name, name.replace("_", " "))


def methods_in(table: pd.DataFrame) -> list[str]:
    """The methods of `table`: the built-in ones in their usual order, then the others by name."""
    found = set(table["method"].astype(str))
    return [name for name in METHODS if name in found] + sorted(found - set(METHODS))


def needed(tables: Tables, name: str) -> pd.DataFrame:
    """The table `name`.

    Raises:
        OnebasinError: it is missing or has no row.
    """
    if name not in tables or tables[name].empty:
        raise OnebasinError(f"table '{name}' has no rows to draw; compute it first or leave this figure out")
    return tables[name]


def splits_in(table: pd.DataFrame) -> list[str]:
    """The splits of `table`, `test` first."""
    return sorted(set(table["split"].astype(str)), key=lambda split: (split != "test", split))


def on_first_split(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of the test split and its name; of the first other split where nothing was measured on test data."""
    split = splits_in(table)[0]
    return table[table["split"] == split], split


def at_largest_count(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The rows with the largest number of models in `table`, and that number; methods without it fall away."""
    count = int(table["count"].max())
    return table[table["count"] == count], count


def at_smallest_count(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The rows with the smallest number of models in `table`, and that number."""
    count = int(table["count"].min())
    return table[table["count"] == count], count


def some_layers(table: pd.DataFrame, at_most: int = 12) -> list[str]:
    """The layers of `table` in the order of the network; of many, so many, evenly spread from the first to the last."""
    layers = [str(layer) for layer in dict.fromkeys(table["layer"]) if layer != "total"]
    places = np.linspace(0, len(layers) - 1, min(at_most, len(layers))).round().astype(int)
    return [layers[place] for place in places]


def layer_title(layer: str) -> str:
    """A layer's name, and what it is where the name is a mere number."""
    return f"layer {layer}" if layer.isdigit() else layer


def seed_order(model: object) -> tuple[float, str]:
    """The key that sorts models by seed, whether tables hold seeds as numbers or as text: 9 before 10."""
    text = str(model)
    return (float(text) if text.isdigit() else math.inf, text)


@contextmanager
def paper_settings() -> Iterator[None]:
    """Matplotlib's defaults and `RC` on top, whatever the caller's own settings are; those come back afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def paper_style(function: Callable[[Tables], Figure]) -> Callable[[Tables], Figure]:
    """Decorate a figure's function: it draws under `paper_settings`, and the layout is settled once.

    Laid out anew each time it is written, a figure would move by fractions of a point, and its files would differ.
    """

    @functools.wraps(function)
    def styled(tables: Tables) -> Figure:
        with paper_settings():
            figure = function(tables)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
            return figure

    return styled


def new_figure(rows: int, columns: int, height: float, **settings: Any) -> tuple[Figure, list[Axes]]:
    """A figure of full text width, unknown to pyplot, and its panels row by row; `height` in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False, **settings).flat)


def panel_grid(panels: int, at_most: int, spare: float, **settings: Any) -> tuple[Figure, list[Axes]]:
    """A figure of `panels` square panels, `at_most` in a row, with room for a colour bar at its right.

    `spare` inches of height are left for what stands above and below all panels.
    """
    side = min(2.6, (WIDTH - 1.25) / _columns(panels, at_most))
    return panel_rows(panels, at_most, side + 0.36, spare, **settings)


def panel_rows(panels: int, at_most: int, height: float, spare: float, **settings: Any) -> tuple[Figure, list[Axes]]:
    """A figure of `panels` panels in rows of `height` inches, `at_most` in a row; `spare` as for `panel_grid`.

    Rows are about equally long: five panels, of which four would fit into a row, are three and two.
    """
    columns = _columns(panels, at_most)
    rows = math.ceil(panels / columns)
    figure, axes = new_figure(rows, columns, height=spare + rows * height, **settings)
    for unused in axes[panels:]:
        unused.set_visible(False)
    for lowest in axes[panels - columns : panels]:  # with a shared axis, only the figure's last row has numbers
        lowest.tick_params(labelbottom=True)
    return figure, axes[:panels]


def _columns(panels: int, at_most: int) -> int:
    return math.ceil(panels / math.ceil(panels / at_most))


def colour_bar(figure: Figure, axes: Sequence[Axes], colours: ScalarMappable, label: str, **settings: Any) -> None:
    """One labelled, logarithmic colour bar for all panels."""
    slender = max(10, 11 * (figure.get_figheight() - 0.7))  # about 0.09 inches wide, whatever the height
    bar = figure.colorbar(colours, ax=list(axes), pad=0.02, aspect=slender, fraction=0.05, **settings)
    bar.set_label(label)
    bar.outline.set_linewidth(0.6)
    log_ticks(bar.ax.yaxis, *colours.get_clim())


def told(table: pd.DataFrame, prefix: str = "") -> dict[str, tuple[float, str]]:
    """Of loss and accuracy those that the table has, as an objective may know no accuracy: scale and unit of each."""
    return {quantity: how for quantity, how in QUANTITIES.items() if table[f"{prefix}{quantity}"].notna().any()}


def room_for(layers: Sequence[str]) -> float:
    """Inches that the names of layers take below an axis, beyond those of numbers: many stand upright."""
    return LETTER * max(map(len, layers)) if len(layers) > CROWDED else 0


def varied_in(table: pd.DataFrame, name: str) -> list[str]:
    """The columns of varied settings that a study's table `name` has."""
    records = {key: own for entry in entries("measure").values() for key, own in entry.get("tables", {}).items()}
    known = ["experiment", *records[name]["keys"], *records[name]["values"]]
    return [str(column) for column in table.columns if column not in known]


def variants_of(table: pd.DataFrame, name: str) -> pd.Series:
    """What a study's table `name` calls the experiment of each row: its varied settings."""
    return table[varied_in(table, name)].map(_cell).agg(", ".join, axis=1)


def _cell(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")


def variant_looks(names: Sequence[str]) -> dict[str, Any]:
    """A colour an experiment of a study, the first the darkest; none is a method's."""
    return dict(zip(names, sns.color_palette("cubehelix", len(names) + 1), strict=False))


def variant_axis(axes: Axes, names: Sequence[str], varied: Sequence[str]) -> None:
    """Name the places 0, 1, ... of an axis after the experiments of a study."""
    axes.set_xlabel(", ".join(varied).replace("_", " "))
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > CROWDED else 0)


def layer_axis(axes: Axes, layers: Sequence[str]) -> None:
    """Name the places 0, 1, ... of an axis after the layers."""
    axes.set_xlabel("layer")
    axes.set_xticks(range(len(layers)), layers, rotation=90 if len(layers) > CROWDED else 0)


def without_nats(figure: Figure) -> Figure:
    """The figure without that unit: losses by another objective than the cross-entropy are in units of its own."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(text.get_text().replace(" (nats)", "").replace(" nats", ""))
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write `figure` as the suffix of `path` says (`.pdf`, `.png` at 300 dpi); equal figures give equal bytes.

    Raises:
        OnebasinError: an unknown suffix, or the file cannot be written.
    """
    stamps: dict[str, dict[str, Any]] = {
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        ".png": {"Software": None},
    }
    suffix = Path(path).suffix.lower()
    if suffix not in stamps:
        raise OnebasinError(f"{path}: figures are written as {' or '.join(stamps)}, not as '{suffix}'")
    with paper_settings(), replacing(path) as temporary:
        figure.savefig(temporary, format=suffix[1:], metadata=stamps[suffix])


def method_lines(axes: Axes, table: pd.DataFrame, x: str, y: str, **settings: Any) -> None:
    """One line a method: the mean of `y` over the rows at each `x`, within one standard deviation.

    The deviation is a band, or a bar where only one `x` is left to draw at. `settings` are those of `Line2D`.
    """
    methods = methods_in(table)
    looks = {name: method_style(name) for name in methods}
    one = table.groupby("method")[x].nunique().max() == 1
    sns.lineplot(
        table,
        x=x,
        y=y,
        hue="method",
        style="method",
        hue_order=methods,
        style_order=methods,
        palette={name: look.colour for name, look in looks.items()},
        markers={name: look.marker for name, look in looks.items()},
        dashes={name: look.dashes or "" for name, look in looks.items()},
        errorbar="sd",
        err_style="bars" if one else "band",
        err_kws={"capsize": 2, "elinewidth": 0.8} if one else {"alpha": 0.2, "linewidth": 0},
        markeredgewidth=0.5,
        legend=False,
        ax=axes,
        zorder=3,
        **settings,
    )


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """`table`, but with the methods apart where there is one `count` only, or they would hide each other."""
    methods = methods_in(table)
    if len(table["count"].unique()) > 1:
        return table
    step = min(0.08, 0.8 / len(methods))
    shifts = {name: step * (rank - (len(methods) - 1) / 2) for rank, name in enumerate(methods)}
    return table.assign(count=table["count"] + table["method"].map(shifts))


def parents_band(axes: Axes, values: pd.DataFrame, y: str) -> None:
    """The models before merging: mean of `y` at each `count` as a thin line, one standard deviation as a band."""
    by_count = values.groupby("count")[y].agg(["mean", "std"]).fillna(0.0)
    x, mean, deviation = by_count.index.to_numpy(float), by_count["mean"].to_numpy(), by_count["std"].to_numpy()
    if len(x) == 1:  # a band needs a width
        x, mean, deviation = np.array([x[0] - 0.5, x[0] + 0.5]), mean.repeat(2), deviation.repeat(2)
    axes.fill_between(x, mean - deviation, mean + deviation, color="0.8", linewidth=0, zorder=1)
    axes.plot(x, mean, color=PARENTS_COLOUR, linewidth=0.8, zorder=2)


def parents_handle() -> Artist:
    """Legend entry of the models before merging."""
    return Patch(facecolor="0.8", edgecolor=PARENTS_COLOUR, linewidth=0.6, label="parents")


def method_handles(methods: Iterable[str], line: bool = True) -> list[Artist]:
    """Legend entries of `methods`: line and marker, or the marker alone."""
    return [_method_handle(name, line) for name in methods]


def _method_handle(name: str, line: bool) -> Artist:
    look = method_style(name)
    handle = Line2D(
        [], [], color=look.colour, marker=look.marker, label=method_label(name), linestyle="-" if line else ""
    )
    handle.set(markeredgecolor="white", markeredgewidth=0.5)
    if line and look.dashes:
        handle.set_dashes(look.dashes)
    return handle


def legend_above(figure: Figure, handles: Sequence[Artist], **settings: Any) -> None:
    """One legend for the whole figure, above the panels, where it covers nothing; in rows that fit its width."""
    room = 72 * WIDTH / RC["legend.fontsize"]  # in the unit of legend sizes, the font size
    widths = np.array([0.55 * len(str(handle.get_label())) + 4.3 for handle in handles])  # letters of mean width

    def needed(columns: int) -> float:
        return sum(column.max() for column in np.array_split(widths, columns))  # as the legend splits them

    alike = (math.ceil(len(handles) / rows) for rows in range(1, len(handles) + 1))  # as few rows as fit, of one length
    columns = next((number for number in alike if needed(number) <= room), 1)
    figure.legend(handles=list(handles), loc="outside upper center", ncols=columns, **settings)


def count_axis(axes: Axes, counts: Iterable[int]) -> None:
    """The x axis that counts models: ticks at the counts that were measured, thinned out where they would touch."""
    ticks = sorted({int(count) for count in counts})
    pad = 0.5 if len(ticks) == 1 else 0.05 * (ticks[-1] - ticks[0])
    axes.set_xlim(ticks[0] - pad, ticks[-1] + pad)
    axes.set_xticks(ticks[:: math.ceil(len(ticks) / 10)])
    axes.set_xlabel("number of models $N$")


def _finite(values: Iterable[float]) -> np.ndarray:
    numbers = np.asarray(list(values), dtype=float)
    return numbers[np.isfinite(numbers)]


def positive_axis(axes: Axes, values: Iterable[float], log_beyond: float = 10) -> None:
    """Fit the y axis to `values`; logarithmic where all are positive and they span more than `log_beyond` times."""
    finite = _finite(values)
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    if low <= 0 or high <= log_beyond * low:
        pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        axes.set_ylim(low - pad, high + pad)
        return
    pad = (high / low) ** 0.06
    axes.set_yscale("log")
    axes.set_ylim(low / pad, high * pad)
    log_ticks(axes.yaxis, low, high)


def accuracy_axis(axes: Axes, percent: Iterable[float]) -> None:
    """Fit the y axis to accuracies; where errors span more than a decade, stretch it towards 100 %.

    The stretched axis is logarithmic in the error (plus half a percent, so that 100 % has a place): models at 96 % and
    97 % stay apart beside one at 20 %.
    """
    finite = _finite(percent)
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 100.0)
    pad = 0.06 * (high - low) or 1.0
    if 100.5 - low < 10 * (100.5 - high):
        axes.set_ylim(low - pad, high + pad)
        return
    axes.set_yscale("function", functions=(_stretch, _unstretch))
    axes.set_ylim(max(low - pad, 0), min(_unstretch(_stretch(high) + 0.08), 100))
    axes.yaxis.set_major_locator(FixedLocator([0, 50, 80, 90, 95, 97, 99, 100]))
    axes.yaxis.set_minor_locator(FixedLocator([*range(10, 90, 10), *range(91, 100)]))
    axes.yaxis.set_major_formatter(FuncFormatter(number))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _stretch(percent: Any) -> Any:
    return -np.log10(np.maximum(100.5 - percent, 1e-3))


def _unstretch(height: Any) -> Any:
    return 100.5 - 10.0**-height


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Ticks of a logarithmic axis, written out: at 1, 2, 5 of each decade, or at each decade where there are many."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(number))
    axis.set_minor_formatter(NullFormatter())


def barrier_axis(axes: Axes, values: Iterable[float], label: str, smallest: float = 1e-4) -> None:
    """The y axis of barriers: logarithmic, but linear about zero, shaded and labelled so, where values reach there.

    A barrier is often exactly zero, which no logarithmic axis can show; below `smallest` nats it is noise.
    """
    finite = _finite(values)
    axes.set_ylabel(label)
    if not finite.size or finite.min() >= smallest:
        positive_axis(axes, finite)
        return
    shown = finite[finite >= smallest]
    threshold = 10.0 ** math.floor(math.log10(shown.min())) if shown.size else smallest
    axes.set_yscale("symlog", linthresh=threshold, linscale=0.5)
    axes.set_ylim(min(finite.min(), 0) - 0.15 * threshold, max(1.6 * finite.max(), 2 * threshold))
    axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=threshold))
    axes.yaxis.set_minor_locator(SymmetricalLogLocator(base=10, linthresh=threshold, subs=range(2, 10)))
    axes.yaxis.set_major_formatter(FuncFormatter(number))
    axes.axhspan(-threshold, threshold, color="0.95", zorder=0)
    axes.set_ylabel(f"{label}\nshaded: linear below {number(threshold)}")


def share_y_label(figure: Figure, axes: Sequence[Axes]) -> None:
    """Say once what the y axes of all panels have in common as their name."""
    figure.supylabel(axes[0].get_ylabel())
    for panel in axes:
        panel.set_ylabel("")


def number(value: float, _position: object = None) -> str:
    """`value` as a tick says it: written out, or as a power of ten where that would be long."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if mantissa == "1" else rf"${mantissa}\times {power}$"

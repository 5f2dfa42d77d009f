"""Robustness against N: does merging more models make the result harder to fool?"""

from matplotlib.figure import Figure

from onebasin.figures import style


@style.paper_style
def robustness(tables: style.Tables) -> Figure:
    """Accuracy of merged models against N, clean and at the middle strength of every attack; the parents' as a band.

    Lines are means over trials, bands one standard deviation. Panels end below the methods that align, which are to be
    told apart.
    """
    table, split = style.on_first_split(style.needed(tables, "robustness"))
    table = table.assign(accuracy=100 * table["accuracy"], model=table["model"].astype(str))
    attacks = list(dict.fromkeys(table["attack"]))
    figure, axes = style.panel_rows(len(attacks), 2, 2.0, spare=0.4)
    for panel, attack in zip(axes, attacks, strict=True):
        rows = table[table["attack"] == attack]
        strengths = sorted(rows["strength"].unique())
        strength = strengths[len(strengths) // 2]
        rows = rows[rows["strength"] == strength]
        merged = rows[rows["model"] == "merged"]
        single = rows[~rows["model"].isin(["merged", "rescaled"])]
        shared = single.groupby(["count", "trial"], as_index=False)["accuracy"].mean()
        style.parents_band(panel, shared, "accuracy")
        style.method_lines(panel, style.side_by_side(merged), "count", "accuracy")
        style.count_axis(panel, merged["count"])
        aligned = merged[merged["method"] != "naive"]["accuracy"]
        if len(aligned):
            low, high = min(aligned.min(), shared["accuracy"].min()), max(aligned.max(), shared["accuracy"].max())
            pad = 0.08 * (high - low) or 1.0
            panel.set_ylim(low - pad, high + pad)
        panel.set(title=_title(attack, strength), ylabel=f"{split} accuracy (%)")
    handles = [*style.method_handles(style.methods_in(table)), style.parents_handle()]
    style.legend_above(figure, handles)
    return figure


def _title(attack: str, strength: float) -> str:
    names = {"clean": "clean", "fgsm": f"FGSM, {strength:g}", "pgd": f"PGD, {strength:g}"}
    return names.get(attack, f"Gaussian {attack}, {strength:g}")

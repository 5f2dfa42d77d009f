"""How fast the permutation searches are: ours against `textbook.py`, on the same inputs in the same process.

`make bench` runs this folder and `report.py`, which writes results/benchmarks/search.md; the suite skips benchmarks.
Every benchmark stores its figures under `extra_info`: `ours` and `textbook` in the unit named there, `ratio`, `inputs`.
The textbook runs between our rounds, so that what else the machine does falls on both.

Where a step of STE-MM goes (MLP 3 x 512, N = 5, two cores of an AMD EPYC without AVX-512 that others shared;
`test_parts_of_a_step`, to be updated from search.md):

    cost products             62 ms  54 %   (4.6 GFLOP: 41 ms at this machine's 113 GFLOP/s; the rest is gathering)
    assignments               23 ms  20 %   (about 21 problems, each on one thread)
    loss and gradient         13 ms  11 %
    permuting, combining       5 ms   5 %
    Adam over the targets      4 ms   3 %
    rest                       7 ms   6 %
    together                 115 ms         1.8 times the floor of products and assignments
"""

import functools
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import textbook
import torch
from scipy.optimize import linear_sum_assignment
from torch.utils.flop_counter import FlopCounterMode

from onebasin.data import Data, Split, digits
from onebasin.machine.jobs import prepare_torch
from onebasin.matching import ste_mm as ste_mm_module
from onebasin.matching import weight
from onebasin.matching.cost import Costs
from onebasin.matching.latents import Latents
from onebasin.matching.ste_mm import ste_mm
from onebasin.matching.weight import Matcher, weight_matching
from onebasin.merging.average import aligned_models
from onebasin.models.canonical import canonical_models
from onebasin.models.stack import Models
from onebasin.networks.build import new_network
from onebasin.parameters import mean
from onebasin.seeding import generator
from onebasin.symmetry import assignment
from onebasin.symmetry.apply import act_on_stack
from onebasin.symmetry.assignment import Duals, solve
from onebasin.symmetry.kinds import nested
from onebasin.symmetry.kinds.permutation import PermutationSolver
from onebasin.symmetry.spec import Axis, Group, Spec
from onebasin.symmetry.trace import trace
from onebasin.training.run import train

THREADS = int(os.environ.get("THREADS", "2"))
STE_MM = {"epochs": 1, "batch": 256, "lr": 0.001, "weights": "random", "first_sweep": "signal", "warm_start": True}
WEIGHT_MATCHING = {"max_rounds": 100, "first_sweep": "random"}
TRAINED = {128: (3, 10), 256: (32, 6), 512: (10, 6), 1024: (5, 3), 2048: (3, 2), 4096: (3, 1)}  # width: models, epochs
COUNT, WIDTH = 5, 512  # of (b) and (c)
FIRST, STEPS = 3, 20  # the steps that are left out, as the first matching is no typical one, and those that are timed
WATCHED = [
    (Costs, "of", "cost products"),
    (PermutationSolver, "best", "assignments"),
    (ste_mm_module, "combine", "permuting and combining the models"),
    (ste_mm_module, "gradient_at", "loss and gradient"),
    (Latents, "step", "Adam over the targets"),
]
HERE = Path(__file__).parent

no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch.cuda.is_available() is false")
on_devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=no_gpu)])


@contextmanager
def as_a_job(threads: int, device: str, nondeterministic: str):
    """torch within is as every job of the workflow has it."""
    before, filled = torch.get_num_threads(), torch.utils.deterministic.fill_uninitialized_memory
    prepare_torch(threads, device, nondeterministic)
    yield
    torch.utils.deterministic.fill_uninitialized_memory = filled
    torch.set_deterministic_debug_mode("default")
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    with as_a_job(THREADS, "cpu", "warn"):
        yield


# inputs


@functools.cache
def digits_on(device: str) -> Data:
    data = digits()
    training, test = (Split(part.inputs.to(device), part.targets.to(device)) for part in (data.train, data.test))
    return Data(training, test, data.classes)


@functools.cache
def trained(width: int) -> Models:
    count, epochs = TRAINED[width]
    settings = {"optimizer": "adam", "lr": 0.001, "weight_decay": 0.0, "batch": 100, "epochs": epochs}
    network = {"name": "mlp", "width": width, "depth": 3}
    return train(network, digits_on("cpu"), settings, range(count), root=0)[0]


def models_on(device: str, width: int, count: int) -> tuple[Models, Spec]:
    models = trained(width).first(count)
    network = models.network.to(device)
    parameters = {name: tensor.to(device) for name, tensor in models.parameters.items()}
    models = Models(network, parameters, models.seeds, models.input_shape)
    return models, trace(network, models.example_input)


def batch_of(step: int, device: str) -> Split:
    data = digits_on(device).train
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(step))[: STE_MM["batch"]].to(device)
    return Split(data.inputs[chosen], data.targets[chosen])


# a search, step by step


def now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def our_steps(models: Models, spec: Spec, steps: int, device: str, at_step=lambda step: None) -> list[float]:
    """The seconds of each of the first steps of `ste_mm`; `at_step` is called before each."""
    stamps = []

    def batches(*_):
        for step in range(steps):
            at_step(step)
            stamps.append(now(device))
            yield batch_of(step, device)
        stamps.append(now(device))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ste_mm_module, "training_batches", batches)
        ste_mm(models, spec, digits_on(device), STE_MM, generator("bench", device=device))
    return np.diff(stamps).tolist()


def textbook_steps(models: Models, spec: Spec, steps: int, device: str) -> list[float]:
    """The seconds of each of the textbook's first steps, on the same batches."""
    own = [models[i] for i in range(len(models))]
    search = textbook.SteMM(models.network, own, spec, STE_MM["lr"], generator("bench"))
    seconds = []
    for step in range(steps):
        batch, start = batch_of(step, device), now(device)
        search.step(batch.inputs, batch.targets)
        seconds.append(now(device) - start)
    return seconds


def test_the_steps_of_both_are_timed():
    """Runs in the ordinary suite, so that the benchmarks keep up with the library."""
    models, spec = models_on("cpu", 128, 3)
    for steps in (our_steps, textbook_steps):
        assert len(steps(models, spec, 2, "cpu")) == 2
    assert operations_of_products(models, spec) > 0


def compare(benchmark, ours, theirs, rounds: int, unit: str, **facts) -> None:
    """Run both in turns; each returns its figure in seconds (a time a step or a problem). The best round counts."""
    figures: dict[str, list[float]] = {"ours": [], "textbook": []}
    benchmark.pedantic(
        lambda: figures["ours"].append(ours()),
        setup=lambda: figures["textbook"].append(theirs()),
        rounds=rounds,
    )
    best = {name: min(values) for name, values in figures.items()}
    note(benchmark, unit=unit, ratio=best["textbook"] / best["ours"], **best, **facts)


def note(benchmark, **facts) -> None:
    benchmark.extra_info.update({"threads": torch.get_num_threads(), **facts})


def timed(function, device="cpu"):
    """The function's seconds, and what it returned."""
    start = now(device)
    result = function()
    return now(device) - start, result


# (a) the assignment alone, on costs that a search met


@functools.cache
def recorded(width: int, count: int, steps: int, keep: int) -> list[tuple[np.ndarray, Duals, np.ndarray]]:
    """The last problems of STE-MM's first steps: costs `[n, n]`, duals to start from, permutation."""
    problems = []

    def recording(costs, prices, old, warm_start):
        duals = Duals(np.zeros((1, len(costs))), prices[None].copy())
        problems.append((costs.copy(), duals, old[None].copy()))
        del problems[:-keep]
        return improve(costs, prices, old, warm_start)

    improve = assignment.improve
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "improve", recording)
        our_steps(*models_on("cpu", width, count), steps, "cpu")
    return problems


@pytest.mark.parametrize("start", ["warm", "cold"])
@pytest.mark.parametrize(
    ("width", "count", "steps", "keep"),
    [(512, 3, 20, 30), (1024, 3, 4, 12), (2048, 2, 3, 8)],
    ids=["512", "1024", "2048"],
)
def test_assignment_on_recorded_costs(benchmark, width, count, steps, keep, start):
    problems = recorded(width, count, steps, keep)

    def ours():
        answers = []
        for costs, duals, previous in problems:
            warm = (duals, previous) if start == "warm" else (None, None)
            answers.append(solve(costs[None], *warm).columns[0])
        return answers

    def theirs():
        return [linear_sum_assignment(costs)[1] for costs, *_ in problems]

    for (costs, *_), our, their in zip(problems, ours(), theirs(), strict=True):
        rows = np.arange(len(costs))
        assert costs[rows, our].sum(dtype=float) == pytest.approx(costs[rows, their].sum(dtype=float), rel=1e-6)
    compare(
        benchmark,
        lambda: timed(ours)[0] / len(problems),
        lambda: timed(theirs)[0] / len(problems),
        rounds=3,
        unit="s a problem",
        title=f"assignment, {start} start, against SciPy (always cold)",
        inputs=f"n = {width}, the last {len(problems)} problems of {steps} steps of STE-MM, N = {count}, 1 thread",
    )


@functools.cache
def mixtures(blocks: int, units: int) -> list[np.ndarray]:
    """Costs of matching the experts of a mixture, whose weights are another's in other places and with noise, as that
    grows: a search that goes on. float32 `[n (1 + h), n (1 + h)]`."""
    draws, inputs = torch.Generator().manual_seed(0), 64
    group = Group("experts", blocks, (), "nested", (units,))
    element = nested.random(group, draws)
    one = torch.randn(group.units, inputs, generator=draws)
    costs = []
    for noise in (1.0, 1.1, 1.2):
        other = one + noise * torch.randn(one.shape, generator=draws)
        both = -(one @ other[element].T)
        for family in range(2):  # blocks and units have nothing in common
            both[group.span(family), group.span(1 - family)] = 0
        costs.append(both.numpy())
    return costs


@pytest.mark.parametrize(("blocks", "units"), [(8, 512), (64, 128)], ids=["8 x 512", "64 x 128"])
@pytest.mark.parametrize("start", ["warm", "cold"])
def test_best_element_of_a_nested_group(benchmark, blocks, units, start):
    group = Group("experts", blocks, (), "nested", (units,))
    costs, old = mixtures(blocks, units), torch.arange(group.units)[None]
    found = {}

    def ours():
        solver = nested.NestedSolver(1, group, start == "warm")
        seconds = []
        for own in costs:
            spent, (element, _) = timed(functools.partial(solver.best, torch.from_numpy(own)[None], [0], old))
            seconds.append(spent)
            found["ours"] = element
        return seconds[-1]

    def theirs():
        """All inner problems by SciPy, then that of the blocks."""
        own, values = costs[-1][blocks:, blocks:], costs[-1][:blocks, :blocks].astype(float)
        pairs = own.reshape(blocks, units, blocks, units)
        for place, block in np.ndindex(blocks, blocks):
            problem = pairs[place, :, block]
            values[place, block] += problem[linear_sum_assignment(problem)].sum(dtype=float)
        found["textbook"] = values[linear_sum_assignment(values)].sum()

    ours()
    theirs()
    value = costs[-1][np.arange(group.units), found["ours"][0].numpy()].sum(dtype=float)
    assert value == pytest.approx(found["textbook"], rel=1e-6)
    compare(
        benchmark,
        ours,
        lambda: timed(theirs)[0],
        rounds=2,
        unit="s an element",
        title=f"best element of a nested group, {start} start, against all pairs by SciPy",
        inputs=f"{blocks} experts of {units} units, {THREADS} threads; warm: the third of three that grow apart",
    )


# (b) a step of STE-MM


@on_devices
@pytest.mark.parametrize("count", [3, COUNT, 10])
def test_step_of_ste_mm(benchmark, device, count):
    models, spec = models_on(device, WIDTH, count)
    compare(
        benchmark,
        lambda: float(np.mean(our_steps(models, spec, FIRST + STEPS, device)[FIRST:])),
        lambda: float(np.mean(textbook_steps(models, spec, FIRST + STEPS, device)[FIRST:])),
        rounds=2,
        unit="s a step",
        title="STE-MM step",
        inputs=f"MLP 3 x {WIDTH}, N = {count}, mean of steps {FIRST + 1}-{FIRST + STEPS}, {device}",
        device=device,
    )


def test_parts_of_a_step(benchmark):
    """Where the time of (b) goes, by the functions a step calls, and the floating-point operations of its products."""
    models, spec = models_on("cpu", WIDTH, COUNT)
    parts, within, runs = Counter(), [0.0], []

    def watched(part, function):
        def watching(*arguments, **options):
            within.append(0.0)
            seconds, result = timed(lambda: function(*arguments, **options))
            parts[part] += seconds - within.pop()  # less what was watched within
            within[-1] += seconds
            return result

        return watching

    def run():
        with pytest.MonkeyPatch.context() as patch:
            for owner, name, part in WATCHED:
                patch.setattr(owner, name, watched(part, getattr(owner, name)))
            seconds = our_steps(models, spec, FIRST + STEPS, "cpu", lambda step: step == FIRST and parts.clear())
        total = sum(seconds[FIRST:])
        runs.append((total, parts | Counter(rest=total - sum(parts.values()))))

    benchmark.pedantic(run, rounds=3)
    total, best = min(runs, key=lambda run: run[0])
    note(
        benchmark,
        parts={part: value / STEPS for part, value in best.most_common()},
        step=total / STEPS,
        flops=operations_of_products(models, spec) / STEPS,
        inputs=f"MLP 3 x {WIDTH}, N = {COUNT}, mean of steps {FIRST + 1}-{FIRST + STEPS}, cpu",
    )


def test_what_is_watched_is_there():
    assert all(callable(getattr(owner, name)) for owner, name, _ in WATCHED)  # a benchmark that is not run says nothing


def operations_of_products(models: Models, spec: Spec) -> int:
    """Floating-point operations of the cost products of the steps that are timed; counting slows them down."""

    def product(left, second, third, *_, **__):
        right = second if third is None else third  # with a total to be added, it comes second
        return 2 * int(np.prod(left)) * right[0]

    def sum_of_products(_, left, right, **__):
        return 2 * int(np.prod(left)) * right[-1]

    unknown = {torch.ops.mkldnn._linear_pointwise: product, torch.ops.aten.baddbmm_: sum_of_products}
    counter = FlopCounterMode(display=False, custom_mapping=unknown)
    total, products = Counter(), Costs.of

    def counted(*arguments):
        with counter:
            result = products(*arguments)
        total["operations"] += counter.get_total_flops()
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Costs, "of", counted)
        our_steps(models, spec, FIRST + STEPS, "cpu", lambda step: step == FIRST and total.clear())
    return total["operations"]


# (c) weight matching from start to end


@on_devices
def test_weight_matching_to_the_end(benchmark, device):
    models, spec = models_on(device, WIDTH, COUNT)
    found = {}

    def ours():
        found["ours"] = weight_matching(models, spec, None, WEIGHT_MATCHING, generator("bench", device=device))

    def theirs():
        found["textbook"] = textbook.match_many([models[i] for i in range(COUNT)], spec, generator("bench"))

    compare(
        benchmark,
        lambda: timed(ours, device)[0],
        lambda: timed(theirs, device)[0],
        rounds=2,
        unit="s",
        title="weight matching to its end",
        inputs=f"MLP 3 x {WIDTH}, N = {COUNT}, trained, random first sweep, {device}",
        device=device,
    )
    our_spread = spread(aligned_models(models, spec, found["ours"]).parameters)
    indices = {group.name: torch.stack([own[group.name] for own in found["textbook"]]) for group in spec.groups}
    textbook_spread = spread(act_on_stack(models.parameters, spec, indices))
    assert our_spread == pytest.approx(textbook_spread, rel=0.02)  # local optima of random orders
    note(benchmark, spread_ours=our_spread, spread_textbook=textbook_spread)


def spread(stack) -> float:
    """The sum of squared distances of the models to their mean."""
    centre = mean(stack)
    return sum(float((tensor - centre[name]).double().square().sum()) for name, tensor in stack.items())


# (d) the convolutional networks' shapes: one sweep of one model onto another

Shapes = dict[str, tuple[int, ...]]


class Layers:
    """Collects the tensors of a network and the axes of its groups."""

    def __init__(self) -> None:
        self.shapes: Shapes = {}
        self.axes: dict[str, list[Axis]] = {}
        self.sizes: dict[str, int] = {}

    def add(self, name: str, shape: tuple[int, ...], *groups: str | None) -> None:
        """A tensor, and the group of each of its first axes (None: not permuted)."""
        self.shapes[name] = shape
        for axis, group in enumerate(groups):
            if group is not None:
                self.axes.setdefault(group, []).append(Axis(name, axis))
                self.sizes[group] = shape[axis]

    def convolution(self, name: str, out: int, into: int, to: str, source: str | None, bias: bool) -> None:
        """A 3 x 3 convolution and its BatchNorm."""
        self.add(f"{name}.weight", (out, into, 3, 3), to, source)
        for tensor in ["bias"] * bias + ["norm.weight", "norm.bias"]:
            self.add(f"{name}.{tensor}", (out,), to)

    def spec(self) -> Spec:
        return Spec(tuple(Group(name, self.sizes[name], tuple(axes)) for name, axes in self.axes.items()))


def vgg11(multiplier: int = 4) -> Layers:
    layers, source, into = Layers(), None, 3
    for number, width in enumerate([64, 128, 256, 256, 512, 512, 512, 512]):
        out, group = multiplier * width, f"conv{number}"
        layers.convolution(group, out, into, group, source, bias=True)
        source, into = group, out
    layers.add("linear.weight", (10, into), None, source)
    layers.add("linear.bias", (10,))
    return layers


def resnet20(multiplier: int = 16) -> Layers:
    layers, into, stream = Layers(), 16 * multiplier, "stream0"
    layers.convolution("stem", into, 3, stream, None, bias=False)
    for stage in range(3):
        out = 16 * 2**stage * multiplier
        for block in range(3):
            name, after = f"stage{stage}.{block}", f"stream{stage}"
            layers.convolution(f"{name}.conv1", out, into, f"{name}.inner", stream, bias=False)
            layers.convolution(f"{name}.conv2", out, out, after, f"{name}.inner", bias=False)
            if stream != after:
                layers.convolution(f"{name}.shortcut", out, into, after, stream, bias=False)
            into, stream = out, after
    layers.add("linear.weight", (10, into), None, stream)
    layers.add("linear.bias", (10,))
    return layers


@pytest.mark.parametrize(
    ("name", "make", "groups", "millions"),
    [("ResNet20 x16", resnet20, 12, 74.4), ("VGG11 x4", vgg11, 8, 147.5)],
    ids=["resnet20x16", "vgg11x4"],
)
def test_sweep_of_a_convolutional_network(benchmark, monkeypatch, name, make, groups, millions):
    layers, draws = make(), generator("bench", name)
    spec = layers.spec()
    target, source = (
        {tensor: 0.02 * torch.randn(shape, generator=draws) for tensor, shape in layers.shapes.items()}
        for _ in range(2)
    )
    size = sum(tensor.numel() for tensor in target.values())
    assert (len(spec.groups), round(size / 1e6, 1)) == (groups, millions)
    monkeypatch.setattr(weight.Matcher, "max_sweeps", 1)
    target_stack, source_stack = ({n: t[None] for n, t in model.items()} for model in (target, source))

    def ours():
        return Matcher(spec, 1, generator("bench")).match(target_stack, source_stack, [0])

    def theirs():
        return textbook.sweep(target, source, spec, textbook.start(spec), range(groups))

    compare(
        benchmark,
        lambda: timed(ours)[0],
        lambda: timed(theirs)[0],
        rounds=1,
        unit="s a sweep",
        title=f"first sweep, {name}",
        inputs=f"{millions} M parameters, {groups} groups, one model onto another, random weights, cpu",
    )


# (e) growth with N and with the width


GROWTH = [("N", count, count, 256) for count in (2, 4, 8, 16, 32)]
GROWTH += [("width", width, 3, width) for width in (128, 256, 512, 1024, 2048, 4096)]


@on_devices
@pytest.mark.parametrize(("against", "value", "count", "width"), GROWTH, ids=[f"{g[0]}{g[1]}" for g in GROWTH])
def test_growth_of_a_step(benchmark, device, against, value, count, width):
    models, spec = models_on(device, width, count)
    first, steps = (3, 6) if width <= 512 else (1, 2)
    facts = {"against": against, "value": value, "device": device, "unit": "s a step"}
    inputs = f"MLP 3 x {width}, N = {count}, mean of steps {first + 1}-{first + steps}, {device}"
    if count * width <= 4096 and width <= 1024:
        compare(
            benchmark,
            lambda: float(np.mean(our_steps(models, spec, first + steps, device)[first:])),
            lambda: float(np.mean(textbook_steps(models, spec, first + steps, device)[first:])),
            rounds=1,
            inputs=inputs,
            **facts,
        )
    else:
        seconds = benchmark.pedantic(our_steps, (models, spec, first + steps, device), rounds=1)
        note(benchmark, ours=float(np.mean(seconds[first:])), inputs=inputs, **facts)


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize("form", ["ordinary", "canonical"])
def test_growth_of_a_step_of_transformers(benchmark, form, width):
    """The groups of an ordinary one are nested, heads and their coordinates; a canonical one's stream is orthogonal."""
    network = {"name": "vit", "form": form, "patch": 2, "width": width, "heads": 4, "depth": 2, "hidden": 2 * width}
    settings = {"optimizer": "adamw", "lr": 0.001, "weight_decay": 0.001, "batch": 128, "epochs": 1}
    models = train(network, digits_on("cpu"), settings, range(3), root=0)[0]
    models = canonical_models(models) if form == "canonical" else models
    spec = trace(models.network, models.example_input)
    assert {group.kind for group in spec.groups} >= {"nested" if form == "ordinary" else "orthogonal"}
    seconds = benchmark.pedantic(our_steps, (models, spec, 4, "cpu"), rounds=1)
    note(
        benchmark,
        ours=float(np.mean(seconds[1:])),
        unit="s a step",
        against=f"width, {form} ViT",
        value=width,
        device="cpu",
        inputs=f"ViT of 2 blocks, 4 heads, {form} form, width {width}, N = 3, mean of steps 2-4, cpu",
    )


# memory


def test_peak_memory(benchmark, tmp_path):
    """What a search adds to the resident memory at its highest, as a multiple of the models' own size."""
    count, width = COUNT, 1024  # wide enough that the interpreter's own memory does not show
    models, _ = models_on("cpu", width, count)
    torch.save(models.parameters, tmp_path / "models.pt")
    # tensors as maps of their own, given back when freed: what is resident is what is alive
    own = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    own["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parents[1] / "workflow")])

    def peak(search: str) -> int:
        code = f"import test_search; print(test_search.peak_of({search!r}, {str(tmp_path / 'models.pt')!r}))"
        return int(subprocess.check_output([sys.executable, "-c", code], text=True, env=own))

    peaks = {"ours": benchmark.pedantic(peak, ("ours",), rounds=1), "textbook": peak("textbook")}
    parameters = sum(tensor.numel() * 4 for tensor in models.parameters.values())
    note(
        benchmark,
        unit="times the models",
        title="peak memory of STE-MM beyond the models",
        ratio=peaks["textbook"] / peaks["ours"],
        ours=peaks["ours"] / parameters,
        textbook=peaks["textbook"] / parameters,
        inputs=f"MLP 3 x {width}, N = {count}, float32: models {parameters / 2**20:.0f} MiB, "
        f"{width} x {width} costs of one group for all models {count * width**2 * 4 / 2**20:.0f} MiB",
    )


def peak_of(search: str, path: str, steps: int = 3) -> int:
    """Bytes that the resident memory of this process rises by during the first steps of a search."""
    torch.set_num_threads(THREADS)
    run = {"ours": our_steps, "textbook": textbook_steps}[search]
    run(*models_on("cpu", 128, 3), 1, "cpu")  # what is imported or compiled on first use
    parameters = torch.load(path)
    count, width, _ = parameters["3.weight"].shape
    network = new_network({"name": "mlp", "width": width, "depth": 3}, digits_on("cpu").input_shape, 10, "test")
    models = Models(network, parameters, tuple(range(count)), digits_on("cpu").input_shape)
    spec = trace(network, models.example_input)
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts anew
    before = memory("VmRSS")
    run(models, spec, steps, "cpu")
    return memory("VmHWM") - before


def memory(field: str) -> int:
    """Bytes of a field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))

# Which files there are: what measures fill and open, what experiments and studies show, and what is said of it.
MEASURES = entries("measure")
RECORDS = records()
FIGURES = entries("figure")


def place_of_archives(wildcards, input):
    """Where the archives of an experiment's data are, if it has any; they are there by then.

    As a function of the input it is no reason to run again: archives are the same wherever they are.
    """
    return {**DOWNLOADS[EXPERIMENTS[wildcards.experiment].archives], "download": False} if input else {}


def only(folders, names_of, experiments=EXPERIMENTS):
    """A pattern of experiments, each with what `names_of` says alone of the files or folders that lie in `folders`."""
    names = {name: any_of(names_of(EXPERIMENTS[name])) for name in experiments}
    return any_of(rf"{name}(?=/({folders})/({own})[./])" for name, own in names.items())


def searches(model_by_model, names=EXPERIMENTS):
    """A pattern of experiments with those methods alone that are model by model, or that are not."""
    methods = lambda experiment: [m for m in experiment["methods"] if experiment.is_model_by_model(m) == model_by_model]
    return only("permutations|timing", methods, names)


def parts(experiment, measure, trial=None):
    """The files that a measure fills in an experiment; those of one trial, if given."""
    place = f"results/{experiment.name}/measured/{measure}"
    trials = experiment.trials_of(measure) if trial is None else [trial]
    match MEASURES[measure]["scope"]:
        case "experiment":
            return [f"{place}.csv"]
        case "trial":
            return [f"{place}/t{number}.csv" for number in trials]
        case "search":
            return [f"{place}/{block}-t{number}.csv" for block in experiment.blocks_of_methods for number in trials]
        case "training":
            return [f"results/{experiment.name}/history/seed-{seed}.csv" for seed in experiment["seeds"]]
        case "matching":
            return [
                f"results/{experiment.name}/timing/{method}/n{count}-t{number}.csv"
                for method in experiment["methods"]
                for number in trials
                for count in experiment.searched_counts(method)
            ]


def methods_of(wildcards):
    """The methods that a job measures, one after the other."""
    return EXPERIMENTS[wildcards.experiment].blocks_of_methods[wildcards.block] if wildcards.get("block") else [""]


def opened(wildcards):
    """What a measure may open, by what it holds."""
    experiment, entry = EXPERIMENTS[wildcards.experiment], MEASURES[wildcards.measure]
    counts, opens = experiment.counts_of(wildcards.measure), entry.get("opens", [])
    files = {"data": f"results/{experiment.name}/data.safetensors"}
    if "symmetries" in opens:
        files["symmetries"] = f"results/{experiment.name}/symmetries.json"
    if "models" in opens:
        files["models"] = [
            MODEL.format(experiment=experiment.name, seed=seed)
            for seeds in seeds_of(wildcards).values()
            for seed in seeds
        ]
    for kind in {"permutations", "merged"} & set(opens):
        files[kind] = [
            f"results/{experiment.name}/{kind}/{method}/n{count}-t{wildcards.trial}.safetensors"
            for method in methods_of(wildcards)
            for count in counts
        ]
    if "reads" in entry:
        files["reads"] = parts(experiment, entry["reads"], int(wildcards.trial))
    return files


def seeds_of(wildcards):
    """The models that a measure is about, by trial: of the largest count that it is about."""
    experiment = EXPERIMENTS[wildcards.experiment]
    trials = [int(wildcards.trial)] if wildcards.get("trial") else experiment.trials
    return {trial: experiment.models_of(trial, max(experiment.counts_of(wildcards.measure))) for trial in trials}


def run_of(wildcards):
    """What a measure is told of its run: the values of `onebasin.measures.run.Run` that are no files."""
    experiment, opens = EXPERIMENTS[wildcards.experiment], MEASURES[wildcards.measure].get("opens", [])
    return {
        "experiment": experiment.name,
        "root": experiment["seed"],
        "recipe": experiment.recipe,
        # a measure that permutes nothing combines nothing either
        "normalization": experiment["normalization"] if "symmetries" in opens else {},
        "counts": experiment.counts_of(wildcards.measure),
        "seeds": seeds_of(wildcards),
        "searched": experiment.searches_of(wildcards.measure),
        "trial": int(wildcards.get("trial", -1)),
    }


def measure_code(wildcards):
    experiment, entry = EXPERIMENTS[wildcards.experiment], MEASURES[wildcards.measure]
    searches = [function for function, _ in experiment.searches_of(wildcards.measure).values()]
    return code("measure.py", *experiment.functions, entry["function"], *searches)


@functools.cache
def caption(words, kind, name):
    """A file that holds the words of an entry: what Snakemake reads for the report has to be one."""
    file = Path(".snakemake/captions") / f"{kind}-{name}.rst"
    if not file.is_file() or file.read_text(encoding="utf-8") != words:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(words, encoding="utf-8")
    return str(file.absolute())


def said(words, kind, name, **where):
    """The words of an entry beside a file in the report."""
    return {"caption": caption(words, kind, name), "subcategory": "{subject}", **where}


def table_files(tables):
    """The files of tables: the CSV, and a summary for readers where there are words for it."""
    for name in tables:
        record, place = RECORDS[name], f"results/{{subject}}/tables/{name}"
        yield f"{place}.csv"
        if "words" in record:
            yield from (f"{place}.md", f"{place}.tex")
            group, labels = record.get("group", "03. Tables"), {"table": name.replace("_", " ")}
            yield report(f"{place}.html", **said(record["words"], "table", name, category=group, labels=labels))


def figure_files(figures):
    """The files of figures; the report shows the PNG."""
    for name in figures:
        entry, place = FIGURES[name], f"results/{{subject}}/figures/{name}"
        yield f"{place}.pdf"
        group, labels = entry.get("group", "02. Figures"), {"figure": entry["title"]}
        yield report(f"{place}.png", **said(entry["words"], "figure", name, category=group, labels=labels))


def tables_of(subject):
    """The tables of an experiment; of a study those that all its experiments have."""
    if subject not in STUDIES:
        return tuple(EXPERIMENTS[subject].tables)
    experiments = [EXPERIMENTS[name] for name in STUDIES[subject].varied]
    return tuple(table for table in experiments[0].tables if all(table in other.tables for other in experiments))


def figures_of(subject):
    """The figures whose tables an experiment or a study has, and whose settings the study varies."""
    if subject not in STUDIES:
        return tuple(figures_from(tables_of(subject)))
    return tuple(figures_from(tables_of(subject), "studies", STUDIES[subject].columns))


def measured(wildcards):
    """What the tables of an experiment or study are made of: by table."""
    if wildcards.subject in STUDIES:
        varied = STUDIES[wildcards.subject].varied
        return {
            table: [f"results/{name}/tables/{table}.csv" for name in varied] for table in tables_of(wildcards.subject)
        }
    experiment = EXPERIMENTS[wildcards.subject]
    return {table: parts(experiment, measure) for table, measure in experiment.tables.items()}


def varied(wildcards):
    """What a study's experiments differ in; nothing for an experiment."""
    return STUDIES[wildcards.subject].varied if wildcards.subject in STUDIES else {}


def objective(wildcards):
    """What the networks of an experiment or study are judged by."""
    return EXPERIMENTS[next(iter(varied(wildcards)), wildcards.subject)].objective


def flagless(files, subject):
    """The files of a rule as targets, for one of its subjects."""
    return [str(file).format(subject=subject) for file in files]

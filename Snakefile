include: "workflow/Snakefile"


# an included file's default target does not count, so the one of workflow/Snakefile is named here again
rule default:
    input:
        rules.all.input,

# What runs where Snakemake runs and belongs to no run of the plan: world, tables, report, MLflow.
# The demo world, which all its archives are written to at once.
rule world:
    output:
        f"{PLAN.results}/world/scenes/SHA256SUMS",
    log:
        f"{PLAN.results}/world/job.log",
    retries: 0
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        digest=PLAN.world_digest(),
    shell:
        "cp2 world > {log:q} 2>&1"


# Parts of it that only some campaigns need.
rule world_voc2007:
    output:
        f"{PLAN.results}/world/voc2007/SHA256SUMS",
    log:
        f"{PLAN.results}/world/voc2007.log",
    retries: 0
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        digest=PLAN.world_digest("voc2007"),
    shell:
        "cp2 world voc2007 > {log:q} 2>&1"


rule world_coco2017:
    output:
        f"{PLAN.results}/world/coco2017/SHA256SUMS",
    log:
        f"{PLAN.results}/world/coco2017.log",
    retries: 0
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        digest=PLAN.world_digest("coco2017"),
    shell:
        "cp2 world coco2017 > {log:q} 2>&1"


# Scores -> one table as Markdown, CSV, LaTeX and HTML. `snakemake --report report.zip` collects what
# is marked here, with captions.
rule table:
    input:
        scores=lambda wildcards: PLAN.table_needs(wildcards.table),
        published=lambda wildcards: PLAN.published(wildcards.table),
    output:
        markdown=f"{PLAN.reports}/tables/{{table}}.md",
        csv=report(
            f"{PLAN.reports}/tables/{{table}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "format": "CSV"},
        ),
        latex=f"{PLAN.reports}/tables/{{table}}.tex",
        page=report(
            f"{PLAN.reports}/tables/{{table}}.html",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "format": "page"},
        ),
    log:
        f"{PLAN.reports}/logs/table_{{table}}.log",
    retries: 0
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        digest=lambda wildcards: PLAN.table_digest(wildcards.table),
    shell:
        "cp2 table {wildcards.table} > {log:q} 2>&1"


# One target a table: `snakemake table_cp2_deeplabv3`.
for name in PLAN.tables:

    rule:
        name:
            f"table_{name}"
        input:
            PLAN.table_needs(name),
            f"{PLAN.reports}/tables/{name}.md",
        localrule: True


# All tables and figures on one page, after the import into MLflow, to which its numbers lead.
rule report:
    input:
        PLAN.table_files(),
        f"{PLAN.reports}/tracked.txt",
    output:
        page=report(
            f"{PLAN.reports}/index.html",
            caption="../report/page.rst",
            category="Page",
            labels={"page": "tables, claims, provenance"},
        ),
        pictures=report(
            f"{PLAN.reports}/pictures.html",
            caption="../report/pictures.rst",
            category="Page",
            labels={"page": "pictures"},
        ),
        # Not deleted before the job, which draws again only what has changed.
        figures=update(
            report(
                directory(f"{PLAN.reports}/figures"),
                patterns=["{figure}.png"],
                caption="../report/figure.rst",
                category="Figures",
                labels={"figure": "{figure}"},
            )
        ),
    log:
        f"{PLAN.reports}/logs/report.log",
    retries: 0
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        **PLAN.resources("report"),
    params:
        digest=PLAN.report_digest(),
    shell:
        "cp2 report > {log:q} 2>&1"


# Records -> MLflow. The only writer: jobs never talk to a tracking server. A store that refuses stops
# nothing: the note says so, the page gets no new links, and the next Snakemake asks again.
rule track:
    input:
        PLAN.table_files(),
        PLAN.pretrained,
    output:
        f"{PLAN.reports}/tracked.txt",
    log:
        f"{PLAN.reports}/logs/track.log",
    retries: 0
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        # One more after an import that was refused, so that Snakemake runs this rule again.
        failed=PLAN.failed_imports(),
    shell:
        "cp2 track --note {output:q} 2>&1 | tee {log:q}"

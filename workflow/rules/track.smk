# Records -> MLflow. The only writer: jobs never talk to a tracking server. A store that refuses stops
# nothing: the note says so, the page gets no new links, and the next Snakemake asks again.
rule track:
    input:
        PLAN.table_files(),
    output:
        f"{PLAN.reports}/tracked.txt",
    log:
        f"{PLAN.reports}/logs/track.log",
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
        "cp2 track --note {output} 2>&1 | tee {log}"

# Records -> MLflow. The only writer: jobs never talk to a tracking server. A store that refuses stops
# nothing: the page is made without links to it, and the next Snakemake asks again.
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
        # One more after an import that failed, so that Snakemake runs this rule again.
        failed=PLAN.failed_imports(),
        failures=PLAN.import_failures.as_posix(),
    shell:
        "cp2 track > {output}.part 2> {log} || "
        "{{ cat {log} >&2; echo 'not imported:' | cat - {log} > {output}.part; "
        "date >> {params.failures}; }}; mv {output}.part {output}"

# One rule a stage, from the table in cp2/stages.py. The resume state of a run is no output on
# purpose: Snakemake deletes outputs around every attempt.
for stage in STAGES.values():
    if stage.name == "world":
        continue
    # Snakemake evaluates `shell` here and again in the job, where the loop is over, but `rule` is
    # the rule's name.
    globals()["rule"] = stage.name

    rule:
        name:
            stage.name
        input:
            lambda wildcards, stage=stage: PLAN.needs(stage.name, wildcards.run),
        output:
            **PLAN.outputs(stage),
        log:
            PLAN.log(stage),
        localrule: not stage.on_cluster
        conda:
            "../../environment.yml"
        threads: PLAN.request(stage.name).cpus
        resources:
            **PLAN.resources(stage.name),
        params:
            digest=lambda wildcards, stage=stage: PLAN.digest(stage.name, wildcards.run),
        shell:
            PLAN.command(STAGES[rule])

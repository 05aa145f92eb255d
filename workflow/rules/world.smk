# The demo world: archives laid out as the official ones are.
rule world:
    output:
        f"{PLAN.results}/world/scenes/SHA256SUMS",
    log:
        f"{PLAN.results}/world/job.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        digest=PLAN.world_digest(),
    shell:
        "cp2 world > {log} 2>&1"

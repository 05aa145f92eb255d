# Campaign -> plan -> rules. All decisions are in cp2/plan; this file only names the targets.
#
#   snakemake --cores all --config campaign=demo         everything of a campaign
#   snakemake --cores all table_cp2_deeplabv3            one table
#   snakemake --cores all results/evaluate/<run id>/done.json     one run (ids: cp2 plan)
#   snakemake --cores all --forcerun evaluate            one stage again
import os
import sys
from pathlib import Path
from secrets import token_hex

from cp2.cluster.driver import hold_folder, rest_between_jobs
from cp2.cluster.ready import get_ready, start_command
from cp2.cluster.submission import before_submission
from cp2.errors import UserError
from cp2.plan.workflow import Workflow

try:
    PLAN = Workflow(config)
except UserError as error:
    sys.exit(f"error: {error}")

# A killed Snakemake leaves locks: this one removes them if no other lives here.
if workflow.is_main_process:
    LIVING = hold_folder(Path(".snakemake"))

# Rules say `cp2 <stage> <run>`. The interpreter and the campaign are no rule parameters: another
# path to Python or another number of workers is no reason to run anything again. On this machine
# jobs are forked from a process that has imported what they need (cp2/cli/starter.py).
STARTER = Path(f".snakemake/starter-{os.getpid()}-{token_hex(4)}")
if workflow.remote_exec:
    shell.prefix(PLAN.shell_prefix(requeue=True))
else:
    shell.prefix(PLAN.shell_prefix(start_command(Path(workflow.basedir), STARTER)))


wildcard_constraints:
    run=r"[a-z0-9][a-z0-9._-]*",
    table=r"[a-z][a-z0-9_]*",


localrules:
    all,
    world,
    publish,
    dataset,
    checkpoint,
    table,
    report,
    track,


onstart:
    rest_between_jobs(workflow)
    try:
        before_submission(PLAN, workflow)
    except UserError as error:
        sys.exit(f"error: {error}")
    get_ready(workflow, STARTER)


# The scores are named beside the report, so that missing ones are made even where Snakemake's own
# records (.snakemake/) were left behind.
rule all:
    default_target: True
    input:
        [PLAN.table_needs(name) for name in PLAN.tables],
        f"{PLAN.reports}/index.html",
        f"{PLAN.reports}/tracked.txt",


include: "workflow/rules/world.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/checkpoint.smk"
include: "workflow/rules/cache.smk"
include: "workflow/rules/masks.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/track.smk"

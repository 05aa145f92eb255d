# Campaign -> plan -> rules. All decisions are in cp2/plan; this file only names the targets.
#
#   snakemake --cores all --config campaign=demo         everything of a campaign
#   snakemake --cores all table_cp2_deeplabv3            one table
#   snakemake --cores all results/evaluate/<run id>/done.json     one run (ids: cp2 plan --runs)
#   snakemake --cores all --forcerun evaluate            one stage again
import os
import sys
from pathlib import Path

from cp2.cluster.commands import this_user
from cp2.cluster.driver import (
    before_submission,
    forget_empty,
    give_up_on_final_errors,
    hold_folder,
    rest_between_jobs,
)
from cp2.errors import UserError
from cp2.plan.workflow import Workflow
from cp2.stages import STAGES

# Snakemake asks for it; a container's user may have none.
os.environ.setdefault("USER", this_user())
try:
    PLAN = Workflow(config, in_job=workflow.remote_exec)
    # A killed Snakemake leaves locks: this one removes them if no other lives here.
    if workflow.is_main_process:
        PLAN.check_words(sys.argv[1:])
        LIVING = hold_folder(Path(".snakemake"))
        forget_empty(PLAN)
except (UserError, OSError) as error:
    sys.exit(f"error: {error}")

# Rules say `cp2 <stage> <run>`. The interpreter and the campaign are no rule parameters: another
# path to Python or another number of workers is no reason to run anything again.
shell.prefix(PLAN.shell_prefix())


wildcard_constraints:
    run=r"[a-z0-9][a-z0-9._-]*",
    table=r"[a-z][a-z0-9_]*",


onstart:
    rest_between_jobs(workflow)
    give_up_on_final_errors(PLAN, workflow)
    PLAN.hand_on()
    try:
        before_submission(PLAN, workflow)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")


include: "workflow/rules/stages.smk"


# A scheduler's job makes one run, and plans none.
if not workflow.remote_exec:

    # The scores are named beside the report, so that missing ones are made even where Snakemake's
    # own records (.snakemake/) were left behind.
    rule all:
        default_target: True
        input:
            [PLAN.table_needs(name) for name in PLAN.tables],
            PLAN.pretrained,
            f"{PLAN.reports}/index.html",
            f"{PLAN.reports}/tracked.txt",
        localrule: True

    include: "workflow/rules/local.smk"

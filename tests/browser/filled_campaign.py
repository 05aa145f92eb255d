"""A campaign of which something is done."""

from pathlib import Path

from fake_runs import finish_cell, write_done, write_losses, write_picture
from tiny_campaign import tiny

from cp2.plan.graph import Plan
from cp2.settings.load import Configuration

SCORES = {  # row: voc2012, cityscapes
    "supervised": ([0.741, 0.739], [0.701, 0.703]),
    "MoCo v2 r.200": ([0.7462, 0.7445], [0.768, 0.766]),
    "CP2 200": ([0.754, 0.757], []),
    "CP2 QT r.200": ([0.749], [0.772, 0.774]),
}


def fill(folder: Path) -> tuple[Configuration, Plan]:
    """Some cells done, one in part, one run that has only begun and was cut while it wrote."""
    configuration, plan = tiny(folder)
    results = configuration.results
    for place, cell in enumerate(plan.tables["cp2_fcn"].cells):
        for shares in SCORES.get(cell.row, ([], []))[place % 2 : place % 2 + 1]:
            finish_cell(plan, "cp2_fcn", place, results, shares)
            for run in plan.ancestors(list(cell.runs[: len(shares)])):
                folder = run.folder(results)
                if run.stage == "evaluate":
                    write_picture(folder.pictures / "0000.png", (308, 100))
                if run.stage in ("pretrain", "finetune"):
                    write_done(run, results)
                    write_losses(run, results)
                    folder.log.write_text("step 1/3 <b>loss</b> 4.0\nstep 3/3 loss 2.0\n")
    cut = next(run for run in plan.stage("finetune") if not run.is_done(results))
    write_losses(cut, results)
    with cut.folder(results).metrics.open("a") as file:
        file.write('{"step": 4, "lo')
    cut.folder(results).environment.write_text('{"git_comm')
    return configuration, plan

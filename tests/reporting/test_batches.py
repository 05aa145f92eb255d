"""A pretraining with another batch size than the published one is named under its tables."""

from pathlib import Path

from cp2.plan.build import build_plan
from cp2.reporting.formats import notes
from cp2.reporting.tables import batch_notes, view_tables
from cp2.settings.load import load_campaign


def _notes(*assignments):
    configuration = load_campaign("paper", assignments)
    plan = build_plan(configuration)
    planned = plan.tables["cp2_fcn"]
    return configuration, plan, planned, batch_notes(plan, planned, configuration.configs)


def test_the_published_size_needs_no_note():
    assert _notes()[3] == ()


def test_methods_differ_in_their_published_size():
    """PixCon's batches of 512 are the published ones."""
    configuration = load_campaign("paper_pixcon")
    plan = build_plan(configuration)
    planned = plan.tables["pixcon_segmentation"]
    assert batch_notes(plan, planned, configuration.configs) == ()


def test_more_processes_and_micro_batches_need_none():
    assert _notes("campaign.execution.accumulate.pretrain=4")[3] == ()


def test_another_size_is_named_under_the_table():
    configuration, plan, planned, found = _notes("methods.cp2.batch_size=128")
    assert found == ("CP² was pretrained here with batches of 128; published: 256.",)
    (view,) = view_tables(configuration, plan, Path("reports/published"), [planned.name])
    assert found[0] in notes(view)

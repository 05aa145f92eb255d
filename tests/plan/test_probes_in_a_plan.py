"""Probes that a plan refuses, before anything runs."""

from collections.abc import Callable

import pytest

from cp2.errors import UserError
from cp2.plan.graph import Plan

TEXT = """
title: T
scale: mini
tables: [evidence_methods]
select: {{evidence_methods: {{rows: [random init], columns: [{column}]}}}}
substitute: {{labelled: {dataset}}}
overrides:
  datasets:
    plain: {{kind: images, title: Plain, root: /nowhere}}
    sorted: {{kind: folders, title: Sorted, root: /nowhere}}
"""


@pytest.mark.parametrize(
    ("column", "kind"), [("linear", "linear-segmentation"), ("nearest", "knn")]
)
@pytest.mark.parametrize(("dataset", "dataset_kind"), [("plain", "images"), ("voc2007", "voc2007")])
def test_a_data_set_without_label_pictures_is_refused(
    plan_of: Callable[..., Plan], column: str, kind: str, dataset: str, dataset_kind: str
) -> None:
    message = (
        rf"{column}.*: data set '{dataset}' \(kind {dataset_kind}\) has no label pictures; kind "
        rf"{kind} needs one that has, such as voc2012 or kind labelled, or kind folders"
    )
    with pytest.raises(UserError, match=message):
        plan_of(TEXT.format(column=column, dataset=dataset))


@pytest.mark.parametrize("column", ["linear", "nearest"])
@pytest.mark.parametrize("dataset", ["voc2012", "sorted"])
def test_labels_of_pixels_and_of_images_are_taken(
    plan_of: Callable[..., Plan], column: str, dataset: str
) -> None:
    (run,) = plan_of(TEXT.format(column=column, dataset=dataset)).stage("evaluate")
    assert run.needs == (f"dataset/{dataset}",)

"""Protocols: how a pretrained model is judged; one file a kind."""

from typing import Annotated

from pydantic import Field

from cp2.settings.protocols.detection import DetectionSettings
from cp2.settings.protocols.probes import KnnSettings, LinearSettings
from cp2.settings.protocols.segmentation import SegmentationSettings
from cp2.settings.protocols.svm import SvmSettings

# Every kind; what it adds to a plan is in `cp2/plan/protocols/<kind>.py`.
AnyProtocol = Annotated[
    SegmentationSettings | DetectionSettings | SvmSettings | LinearSettings | KnnSettings,
    Field(discriminator="kind"),
]

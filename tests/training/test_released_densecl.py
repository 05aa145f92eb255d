"""The authors' DenseCL weights, in the format of their files, finetuned by DenseCL's protocol."""

from pathlib import Path

import torch
from squares import HEAD, RECIPE, RESNET, make, write_squares

from cp2.models.backbones import build_backbone
from cp2.models.checkpoint_stage import import_checkpoint
from cp2.models.segmentor_files import load_segmentor
from cp2.plan.graph import make_run
from cp2.plan.protocols.segmentation import AuxiliaryRecipe
from cp2.plan.recipes import CheckpointRecipe
from cp2.protocols.segmentation.finetuning import build, finetune
from cp2.settings.campaign import Execution
from cp2.settings.load import load_campaign
from cp2.settings.models import FcnSettings
from cp2.settings.optimization import SgdSettings
from cp2.training.clock import Deadline

CONFIGS = Path(__file__).parents[2] / "configs"


def test_released_densecl_is_imported_and_finetuned(tmp_path: Path) -> None:
    """`extract_backbone_weights.py`: dict(state_dict, author), names without `backbone.`."""
    torch.manual_seed(5)
    theirs = build_backbone(RESNET).state_dict()
    published = load_campaign("paper_densecl", (), CONFIGS).checkpoint("densecl-r50-coco-800")
    (tmp_path / "mirror").mkdir()
    file = tmp_path / "mirror" / published.archive.file
    torch.save({"state_dict": dict(theirs), "author": "WXL"}, file)
    results = write_squares(tmp_path)
    recipe = CheckpointRecipe(checkpoint=published, backbone=RESNET, head=None)
    checkpoint = make_run("checkpoint", published.name, recipe, [], {}, plain_name=True)
    import_checkpoint(checkpoint, results, [file.parent], tmp_path / "downloads")

    strided = RESNET.model_copy(update={"output_stride": 8})
    head = FcnSettings(kind="fcn", name="m", title="", channels=8, dilation=1, concat_input=True)
    changes = {
        "backbone": strided,
        "head": head,
        "align_corners": True,
        "auxiliary": AuxiliaryRecipe(head=HEAD, weight=0.4),
    }
    planned = RECIPE.model_copy(update=changes)
    model, _ = build(planned, checkpoint.key, results)
    for key, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, theirs[key]), key

    still = SgdSettings(kind="sgd", lr=0.05, weight_decay=0.0)
    optimization = planned.optimization.model_copy(update={"optimizer": still})
    run = make(planned.model_copy(update={"optimization": optimization}), checkpoint.key)
    finetune(run, results, Execution(workers=0), Deadline())
    trained = load_segmentor(run.folder(results).model)
    assert (trained.backbone.stride, trained.head.conv_cat is not None) == (8, True)
    assert not torch.equal(trained.backbone.conv1.weight, theirs["conv1.weight"])

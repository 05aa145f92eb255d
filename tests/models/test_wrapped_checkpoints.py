"""Checkpoints as trainings leave them: read, or refused with the settings that would read them."""

import pytest
import tiny
import torch
from safetensors.torch import save_file

from cp2.errors import UserError
from cp2.models.backbones import build_backbone
from cp2.models.checkpoint_stage import import_checkpoint
from cp2.models.weights import load_weights
from cp2.plan.graph import make_run
from cp2.plan.recipes import CheckpointRecipe
from cp2.settings.base import hashed_fields
from cp2.settings.checkpoints import CheckpointSettings
from cp2.settings.datasets import Archive

RESNET, VIT = tiny.resnet(), tiny.vit()
R, V = (build_backbone(settings).state_dict() for settings in (RESNET, VIT))
PARTS = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
DECODER = {"mask_token": torch.ones(1), "decoder_blocks.0.norm.weight": torch.ones(2)}


def at(prefix, state):
    return {prefix + key: tensor for key, tensor in state.items()}


def sequential(state):
    return {".".join([PARTS[k.split(".")[0]], *k.split(".")[1:]]): v for k, v in state.items()}


def settings_of(backbone, layout, **changes):
    return CheckpointSettings(
        name="theirs",
        title="",
        archive=Archive(file="file"),
        layout=layout,
        backbone=backbone.name,
        attention_heads=2 if backbone is VIT else None,
        **changes,
    )


@pytest.fixture
def load(tmp_path):
    """load(backbone, layout, **settings) imports `file` and returns the backbone's state."""

    def run(backbone, layout, **changes):
        checkpoint = settings_of(backbone, layout, **changes)
        recipe = CheckpointRecipe(checkpoint=checkpoint, backbone=backbone, head=None)
        planned = make_run("checkpoint", "theirs", recipe, [], {}, plain_name=True)
        import_checkpoint(planned, tmp_path / "results", [tmp_path], tmp_path / "downloads")
        return load_weights(planned.outputs(tmp_path / "results")["model"])[0]["backbone"]

    return run


WRAPPED = {
    "torch.compile": (R, at("_orig_mod.", R), ("torchvision", {})),
    "DDP of a compiled one": (R, at("module._orig_mod.", R), ("torchvision", {})),
    "compiled inside DDP": (R, at("module.encoder_q._orig_mod.", R), ("moco", {})),
    "lightly": (R, at("backbone.", sequential(R)), ("prefixed", {"prefix": "backbone."})),
    "DINO": (
        V,
        {"student": at("module.backbone.", V), "teacher": at("backbone.", V), "epoch": 3},
        ("prefixed", {"prefix": "teacher.backbone."}),
    ),
    "VISSL": (
        R,
        {"classy_state_dict": {"base_model": {"model": {"trunk": at("_feature_blocks.", R)}}}},
        ("prefixed", {"prefix": "classy_state_dict.base_model.model.trunk._feature_blocks."}),
    ),
    "timm's average": (
        V,
        {"state_dict": at("x.", V), "state_dict_ema": V},
        ("prefixed", {"prefix": "state_dict_ema."}),
    ),
    "MAE": (V, {"model": V | DECODER}, ("timm", {"drop": ("decoder_", "mask_token")})),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrapped_files_are_read(tmp_path, load, name):
    expected, content, (layout, changes) = WRAPPED[name]
    torch.save(content, tmp_path / "file")
    found = load(RESNET if expected is R else VIT, layout, **changes)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_safetensors_are_read_where_torch_save_is_expected(tmp_path, load):
    save_file(V | {"head.weight": torch.ones(2)}, tmp_path / "file")
    assert load(VIT, "timm").keys() == V.keys()


MISTAKEN = [
    (R, {"state_dict": at("encoder_q.0.", R) | at("encoder_k.0.", R)}, "moco", ["encoder_q.0."]),
    (R, {"state_dict": at("model.backbone.", R)}, "torchvision", ["model.backbone."]),  # Lightning
    (R, {"state_dict": at("online_net.0.", R) | at("target_net.0.", R)}, "torchvision", [  # ORL
        "online_net.0.; or", "target_net.0. in"]),
    (R, {"state_dict": at("backbone.", R) | at("decode_head.", R)}, "moco", ["backbone."]),  # mmseg
    (R, {"state_dict": at("backbone.", sequential(R))}, "torchvision", ["backbone."]),
    (V, {"student": at("module.backbone.", V), "teacher": at("backbone.", V)}, "timm", [
        "student.backbone.; or", "teacher.backbone. in"]),
    (V, {"model": V | DECODER}, "timm", ["layout: timm, drop: [decoder_blocks., mask_token]"]),
    (R, at("module.", R), "moco", ["layout: torchvision"]),
]  # fmt: skip


@pytest.mark.parametrize(("expected", "content", "layout", "ways"), MISTAKEN)
def test_the_message_names_the_settings_that_would_fit(
    tmp_path, load, expected, content, layout, ways
):
    torch.save(content, tmp_path / "file")
    with pytest.raises(UserError, match="The file would fit with layout: ") as caught:
        load(RESNET if expected is R else VIT, layout)
    last = str(caught.value).splitlines()[-1]
    assert all(way in last for way in ways)


def test_a_smaller_network_is_not_made_of_a_larger_ones_beginning(tmp_path, load):
    torch.save(build_backbone(tiny.vit(depth=2)).state_dict(), tmp_path / "file")
    with pytest.raises(UserError, match="does not fit") as caught:
        load(VIT, "timm")
    assert "would fit" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"", "is empty"),
    ],
)
@pytest.mark.parametrize("layout", ["timm", "simclr", "haiku-pickle", "haiku-numpy", "own"])
def test_what_was_saved_instead_of_the_weights_is_said(tmp_path, load, content, wanted, layout):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=wanted):
        load(VIT, layout)


def test_weights_of_whole_numbers_are_no_weights(tmp_path, load):
    torch.save({k: v.to(torch.int8) for k, v in R.items()}, tmp_path / "file")
    with pytest.raises(UserError, match=r"of another type: .*int8, expected torch\.float32"):
        load(RESNET, "torchvision")


def test_drop_changes_a_run_id_only_where_it_is_set():
    assert "drop" not in hashed_fields(settings_of(VIT, "timm"))
    assert hashed_fields(settings_of(VIT, "timm", drop=("x",)))["drop"] == ["x"]
    with pytest.raises(ValueError, match="drop is for files of torch"):
        settings_of(VIT, "own", drop=("x",))

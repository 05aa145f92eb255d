"""The stage as a whole: a published file in a mirror becomes a backbone, and a head, of ours."""

import pytest
import tiny
import torch
from foreign import bundle, settings, simclr_variables, write_bundle

from cp2.errors import UserError, WrongFile
from cp2.models.backbones import build_backbone
from cp2.models.checkpoint_stage import import_checkpoint
from cp2.models.heads import build_head
from cp2.models.weights import load_weights, save_weights
from cp2.plan.graph import make_run
from cp2.plan.recipes import CheckpointRecipe
from cp2.record.files import read_json
from cp2.settings.checkpoints import CheckpointSettings
from cp2.settings.datasets import Archive
from cp2.settings.models import AsppSettings

ASPP = AsppSettings(kind="aspp", name="a", title="A", channels=4, dilations=(1, 2))
VIT = tiny.vit(64, depth=2, name="v")


@pytest.fixture
def stage(tmp_path):
    """stage(backbone, head, **settings) imports mirror/file and returns parts and done.json."""
    (tmp_path / "mirror").mkdir()

    def run(backbone, head=None, layout="cp2", digest=None, **changes):
        checkpoint = CheckpointSettings(
            name="theirs",
            title="theirs",
            archive=Archive(file="file", hash=digest),
            layout=layout,
            backbone=backbone.name,
            head=head.name if head else None,
            **changes,
        )
        recipe = CheckpointRecipe(checkpoint=checkpoint, backbone=backbone, head=head)
        planned = make_run("checkpoint", "theirs", recipe, [], {}, plain_name=True)
        results = tmp_path / "results"
        import_checkpoint(planned, results, [tmp_path / "mirror"], results / "downloads")
        outputs = planned.outputs(results)
        return load_weights(outputs["model"]), read_json(outputs["done"])

    return run


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mirror" / "file"


def authors_file(path, backbone, head):
    state = {f"backbone.{k}": v for k, v in build_backbone(backbone).state_dict().items()}
    state |= {f"decode_head.{k}": v for k, v in build_head(head, 32).state_dict().items()}
    state["decode_head.conv_seg.weight"] = torch.zeros(21, 4, 1, 1)
    torch.save({"state_dict": state}, path)
    return state


def test_backbone_and_head_are_taken_over(stage, file):
    state = authors_file(file, settings(), ASPP)
    (parts, metadata), done = stage(settings(), ASPP)
    for part, prefix in (("backbone", "backbone."), ("head", "decode_head.")):
        for key, tensor in parts[part].items():
            assert torch.equal(tensor, state[prefix + key]), key
    assert metadata == {"source": "file"}
    assert done["dropped"] == ["decode_head.conv_seg.weight"]
    assert done["notes"] == []


def test_the_head_is_left_out_where_none_is_asked_for(stage, file):
    authors_file(file, settings(), ASPP)
    (parts, _), done = stage(settings())
    assert parts.keys() == {"backbone"}
    assert done["notes"][0].startswith("left the segmentation head out (24 tensors)")


def test_a_file_without_the_head_is_refused(stage, file):
    torch.save(build_backbone(settings()).state_dict(), file)
    with pytest.raises(WrongFile, match=r"holds no segmentation head.*head: a"):
        stage(settings(), ASPP)


def test_another_head_is_refused(stage, file):
    authors_file(file, settings(), ASPP.model_copy(update={"dilations": (1, 2, 4)}))
    with pytest.raises(WrongFile, match="does not fit the head"):
        stage(settings(), ASPP)


def test_foreign_conventions_are_recorded(stage, file):
    write_bundle(file, *bundle(simclr_variables()))
    (parts, _), done = stage(
        settings("same-pool", "zero-one"), layout="simclr", padding="same-pool", input="zero-one"
    )
    assert parts["backbone"].keys() == build_backbone(settings()).state_dict().keys()
    assert (done["padding"], done["input"]) == ("same-pool", "zero-one")
    assert "base_model/conv2d/kernel/Momentum" in done["dropped"]


def test_the_hash_of_the_first_download_is_held(stage, file, capsys, tmp_path):
    authors_file(file, settings(), ASPP)
    _, done = stage(settings(), ASPP)
    assert not done["hash_published"]
    assert done["hash"] == f"sha256:{done['sha256']}"
    assert f"held to {done['hash']}" in capsys.readouterr().out
    authors_file(file, settings(), ASPP)  # other random weights
    with pytest.raises(WrongFile, match="not the file it should be") as error:
        stage(settings(), ASPP)
    assert done["sha256"] in str(error.value)
    record = tmp_path / "results/downloads/file.sha256"
    assert f"delete {record}, which holds the hash of the first use" in str(error.value)
    record.unlink()
    _, replaced = stage(settings(), ASPP)
    assert replaced["sha256"] != done["sha256"]


def test_a_published_hash_is_recorded_as_such(stage, file):
    authors_file(file, settings(), ASPP)
    _, first = stage(settings(), ASPP)
    prefix = f"sha256:{first['sha256'][:8]}"
    _, done = stage(settings(), ASPP, digest=prefix)
    assert done["hash_published"]
    assert done["hash"] == prefix


def test_a_missing_file_says_where_to_put_it(stage):
    with pytest.raises(UserError, match="mirror/file"):
        stage(settings())


# --- vision transformers ---


def test_attention_heads_are_recorded(stage, file):
    torch.save(build_backbone(VIT).state_dict(), file)
    (_, metadata), _ = stage(VIT, layout="timm", attention_heads=2)
    assert metadata["heads"] == "2"


def test_another_number_of_attention_heads_is_refused(stage, file):
    """Every shape agrees."""
    torch.save(build_backbone(VIT).state_dict(), file)
    with pytest.raises(WrongFile, match="trained with 4 attention heads, the backbone has 2"):
        stage(VIT, layout="timm", attention_heads=4)


# --- this project's own files ---


def test_models_of_this_project_made_elsewhere(stage, file):
    backbone, head = build_backbone(settings()), build_head(ASPP, 32)
    parts = {
        "backbone": backbone.state_dict(),
        "head": head.state_dict(),
        "projection": {"0.weight": torch.zeros(2)},
        "keys": {"queue": torch.zeros(2, 3)},
    }
    save_weights(file, parts, {"run": "cp2-tiny"})
    (found, _), done = stage(settings(), ASPP, layout="own")
    for part in ("backbone", "head"):
        assert all(torch.equal(found[part][k], v) for k, v in parts[part].items())
    assert done["dropped"] == ["keys.queue"]


def test_heads_that_the_file_itself_states_are_compared(stage, file):
    save_weights(file, {"backbone": build_backbone(VIT).state_dict()}, {"heads": "4"})
    with pytest.raises(WrongFile, match="trained with 4 attention heads"):
        stage(VIT, layout="own")

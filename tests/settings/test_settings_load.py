"""Where a value comes from, and what a wrong one is answered with."""

from pathlib import Path

import pytest
from campaigns import BASE, CONFIGS, load, refusal

from cp2.errors import UserError
from cp2.plan.graph import Plan
from cp2.plan.stages import Stages
from cp2.settings.datasets import ClassList
from cp2.settings.load import SECTIONS, load_campaign


@pytest.mark.parametrize("name", ["demo", "mini", "paper"])
def test_campaigns_of_the_project_load(name):
    assert load_campaign(name, (), CONFIGS).campaign.name == name


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_every_file_of_every_section_is_valid(section, tmp_path):
    configuration = load(tmp_path)
    names = configuration.names(section)
    assert names
    for name in names:
        reader = "classes" if section == "classes" else section.removesuffix("s")
        assert getattr(configuration, reader)(name).name == name


def test_later_sources_win(tmp_path):
    text = BASE + "overrides: {methods: {cp2: {batch_size: 3, queue_size: 4}}}\n"
    method = load(tmp_path, text, "methods.cp2.queue_size=5", "methods.cp2.queue_size=6").method
    assert method("cp2").batch_size == 3  # campaign over file
    assert method("cp2").queue_size == 6  # last --set over all
    assert method("cp2", {"queue_size": 7}).queue_size == 7  # a table's row asks for it
    assert method("cp2").temperature == 0.2


def test_numbers_as_people_write_them(tmp_path):
    for text in ("1e-3", "1E-3", "1.0e-3", "0.001", ".001", "+1e-03"):
        method = load(tmp_path, BASE, f"methods.cp2.optimizer.resnet.lr={text}").method("cp2")
        assert method.optimizer["resnet"].lr == 0.001


def test_off_is_text_as_in_yaml_1_2(tmp_path):
    assert load(tmp_path, BASE, "methods.cp2.amp=off").method("cp2").amp == "off"


def test_a_data_set_of_the_campaign(tmp_path):
    text = BASE + f"overrides: {{datasets: {{mine: {{kind: images, root: {tmp_path}, title: t}}}}}}"
    configuration = load(tmp_path, text)
    assert configuration.dataset("mine").root == str(tmp_path)
    assert "mine" in configuration.names("datasets")


def test_folders_are_written_out_as_a_shell_does(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    (tmp_path / "home.yaml").write_text(
        BASE + "execution: {results: ~/r, reports: $SCRATCH/p q, mirrors: [m]}\n"
        "overrides: {datasets: {mine: {kind: images, root: ~/photos, title: t}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a$b").mkdir()
    configuration = load_campaign(
        "~/home.yaml", ("campaign.execution.mirrors=['${SCRATCH}/m', a$b/c]",), CONFIGS
    )
    execution = configuration.campaign.execution
    assert (execution.results, execution.reports) == (f"{tmp_path}/r", "/scratch/me/p q")
    assert execution.mirrors == ("/scratch/me/m", "a$b/c")  # a folder that has this name
    assert configuration.dataset("mine").root == f"{tmp_path}/photos"


def test_world_folder_stands_in_urls_percent_encoded(tmp_path):
    results = tmp_path / "my results"
    configuration = load(tmp_path, BASE, f"campaign.execution.results={results}")
    (archive,) = configuration.dataset("demo-imagenet").archives
    assert archive.urls == ((results / "world/scenes/demo-ILSVRC_img_train.tar").as_uri(),)


WRONG_VALUES = {
    # unknown keys name the nearest
    "methods.cp2.batchsize=3": "methods.cp2.batchsize = 3: unknown key; did you mean 'batch_size'?",
    "methods.cp2.views.blur=1": "methods.cp2.views.blur = 1: unknown key; did you mean",
    "methods.cp2.optimizer.resnet.lrr=1": "did you mean 'lr'? allowed: kind, lr, momentum, no_",
    "methods.cp2.optimizer.resnett.lr=1": "optimizer.resnett: unknown key; did you mean 'resnet'?",
    "backbones.resnet18.heads=3": "unknown key; allowed: arch, args, family, input",
    "campaign.execution.worker=1": "campaign.execution.worker = 1: unknown key; did you mean 'work",
    "campaign.resources.pretrian={gpus: 1}": "resources.pretrian: unknown key; did you mean",
    # what no image, no disk and no table can be
    "methods.cp2.views.crop_size=1000000": "less than or equal to 8192",
    "protocols.cp2.datasets.voc2012.augmentation.crop=[1, 8]": "greater than or equal to 8",
    "protocols.cp2.datasets.voc2012.augmentation.resize=[128, 32]": "[128, 32] runs backwards",
    "datasets.mine={kind: images, title: m, root: 's3://b/x'}": "'s3://b/x' is a URL, not a path",
    f"datasets.mine={{kind: images, title: m, root: /{'a' * 5000}}}": "is longer than a path",
    # wrong types
    "methods.cp2.batch_size=many": "methods.cp2.batch_size = 'many': must be a whole number, found",
    "methods.cp2.batch_size=1.5": "must be a whole number, found a number",
    "methods.cp2.batch_size=": "= None: must be a whole number, found nothing",
    "methods.cp2.batch_size=[1]": "methods.cp2.batch_size: must be a whole number, found a list",
    "methods.cp2.zero_init_residual=1": "= 1: must be true or false, found a whole number",
    "methods.cp2.title=1": "= 1: must be text, found a whole number; quote it",
    "methods.cp2.views=1": "methods.cp2.views = 1: must be keys and values, found a whole number",
    "methods.cp2.views.crop_scale=1": "must be a list, found a whole number",
    "methods.cp2.dense_weight=2020-01-01": "= '2020-01-01': must be a number, found text",
    "campaign.epochs={x: 3}": "campaign.epochs.x: key must be a whole number, found text",
    # wrong values
    "methods.cp2.batch_size=1": "= 1: must be greater than or equal to 2",
    "methods.cp2.views.hue=0.7": "= 0.7: must be less than or equal to 0.5",
    "methods.cp2.dense_weight=.inf": "= inf: must be a finite number",
    "methods.cp2.views.crop_scale=[1, 0.2]": "runs backwards: [1.0, 0.2]; write [smallest, l",
    "methods.cp2.views.crop_scale=[1]": "methods.cp2.views.crop_scale: needs 2 items",
    "methods.cp2.views.crop_scale=[0, 1, 2]": "takes at most 2 item(s)",
    "methods.cp2.key_bn=sinc": "= 'sinc': did you mean 'sync'? allowed: none, shuffle, sync",
    "methods.cp2.optimizer.resnet.kind=rmsprop": "= 'rmsprop': allowed: adamw, lars, sgd",
    "methods.cp2.kind=simsiam": "kind = 'simsiam': allowed: byol, cp2, densecl, moco-v2",
    "methods.cp2.mask={kind: polygone}": "mask.kind = 'polygone': did you mean 'polygon'? allowed:",
    "methods.cp2.mask=polygon": "methods.cp2.mask = 'polygon': must be keys and values, found text",
    "methods.cp2.mask.area=[0.5, 1.2]": "methods.cp2.mask.area: must be two shares of the image,",
    "methods.cp2.mask={kind: blocks, area: [0, 0.5]}": "mask.area: must be two shares of the image",
    "methods.cp2.mask={kind: blocks, count: [8, 4]}": "mask.count: must be [smallest, largest]",
    "methods.cp2.mask={kind: polygon, vertices: [3, 9]}": "vertices.0 = 3: must be greater",
    "methods.cp2.mask={kind: patches, aspect: [1, 2]}": "mask.aspect: unknown key; allowed: area",
    "methods.cp2.mask={kind: patches, patch: 30}": "mask.patch 30 does not divide views.crop_",
    "methods.cp2.mask={kind: dino, mass: 1}": "mask.mass = 1: must be less than 1",
    "methods.cp2.mask={kind: full}": "mask.kind full leaves no background, which the dense loss",
    "heads.aspp-small.dilations=[1, x]": "heads.aspp-small.dilations.1 = 'x': must be a whole",
    "campaign.seeds.finetune=[0, 0]": "0 is there twice; the same runs would count double",
    "campaign.seeds.finetune=[]": "needs at least 1 item(s), found 0",
    "campaign.tables=[]": "has neither tables nor pretrainings; name one of either",
    "campaign.name=My Name": "= 'My Name': must be lower-case letters, digits and . _ -",
    "datasets.camvid.archives=[{file: x, hash: md4:00}]": "datasets.camvid.archives.0.hash",
    "datasets.camvid.archives=[{file: ../x.zip}]": "archives.0.file = '../x.zip': must be a plain ",
    "datasets.camvid.archives=[{file: -x.zip}]": "must be a plain file name: no folder",
    'datasets.camvid.archives=[{file: "a\\u202ex.zip"}]': "must be a plain file name: no folder",
    "datasets.camvid.archives=[{file: sha256sums}]": "'sha256sums': a file name must not be SHA256",
    "datasets.camvid.archives=[{file: a.zip.part}]": "'a.zip.part': a file name must not be SHA256",
    "datasets.camvid.archives=[{file: a.zip.sha256}]": "a file name must not be SHA256SUMS or end",
    f"datasets.camvid.archives=[{{file: {'x' * 201}}}]": "must have no more than 200 bytes",
    "tables.cp2_fcn.published=a/b": "tables.cp2_fcn.published = 'a/b': must be a plain file name",
    "classes.camvid.palette=[[0, 0, 300]]": "palette.0.2 = 300: must be less than or equal to 255",
    "classes.camvid.palette=[[0, -1, 0]]": "palette.0.1 = -1: must be greater than or equal to 0",
    "classes.camvid={classes: [x], palette: [[0, 0, 0]]}": "a model that knows one class is always",
    "classes.camvid.classes=[x, y, x ]": "classes: 'x' is there twice; each needs a name of its",
    'classes.camvid.classes=["", y]': "classes: one has an empty name",
    # values that a later stage cannot use
    "methods.cp2.views.crop_scale=[0.2, 1.1]": "must be shares of the image, at most 1: [0.2, 1.1]",
    "methods.cp2.views.blur_sigma=[0, 1]": "views.blur_sigma: must be above 0: [0.0, 1.0]",
    "methods.cp2={background: batch, batch_size: 2}": "takes two other images of the batch, but ba",
    "methods.cp2.queue_size=10000000000": "must be less than 2147483648",
    "methods.cp2.optimizer.vit={kind: adamw, betas: [0.9, 1]}": "betas.1 = 1: must be less than 1",
    "protocols.small.datasets.labelled.augmentation.scale=[0, 1]": "must be above 0: [0.0, 1.0]",
    "protocols.small.datasets.labelled.augmentation.contrast=[-1, 1]": "must not be negative: [-1",
    "protocols.small.datasets.labelled.augmentation.brightness=-1": "= -1: must be greater than or",
    # folders
    "campaign.execution.results=": "results = None: must be text, found nothing",
    'campaign.execution.results=""': "'' is no path: it is empty",
    "campaign.execution.results='r{x}'": "'r{x}': braces are wildcards to Snakemake",
    "campaign.execution.reports=$NO_SUCH_VARIABLE/x": "no such user or $ variable; write the whole",
    "campaign.execution.mirrors=[~nobody-at-all/x]": "no such user or $ variable; write the whole",
    "tables.cp2_fcn.rows=[]": "tables.cp2_fcn.rows: needs at least 1 item(s), found 0",
}


@pytest.mark.parametrize("assignment", WRONG_VALUES)
def test_a_wrong_value_is_named_with_its_setter(assignment, tmp_path):
    message = refusal(tmp_path, BASE, assignment)
    assert WRONG_VALUES[assignment] in message
    assert f"--set {assignment}" in message
    assert "\n" not in message  # one cause, one line


def test_the_campaign_file_is_named_for_its_overrides(tmp_path):
    text = BASE + "overrides: {methods: {cp2: {batch_size: big}}}\n"
    assert refusal(tmp_path, text) == (
        "my.yaml (overrides): methods.cp2.batch_size = 'big': must be a whole number, found text"
    )


def test_all_wrong_keys_are_listed(tmp_path):
    text = BASE.replace("title: Test\n", "tabels: 1\n").replace("scale: mini", "scale: big")
    lines = refusal(tmp_path, text).splitlines()
    assert [line.split(":")[:2] for line in lines] == [
        ["my.yaml", " title"],
        ["my.yaml", " scale = 'big'"],
        ["my.yaml", " tabels = 1"],
    ]
    assert "is missing" in lines[0]
    assert "did you mean 'tables'?" in lines[2]


def test_min_lr_that_makes_the_rate_rise_is_refused(tmp_path):
    change = "protocols.small.datasets.labelled.lr.resnet=1e-4"
    message = refusal(tmp_path, BASE, change)
    assert message.startswith(f"configs/protocols/small.yaml with --set {change}: ")
    assert "min_lr 0.0001 of optimizer.resnet.poly is not below lr 0.0001" in message
    load(tmp_path, BASE, "protocols.small.datasets.labelled.lr.resnet=1.01e-4")


def test_missing_keys_name_who_made_the_entry(tmp_path):
    change = "protocols.small.datasets.labeled.iterations=3"
    for line in refusal(tmp_path, BASE, change).splitlines():
        assert line.startswith(f"configs/protocols/small.yaml with --set {change}: ")
        assert line.endswith("is missing and has no default")


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        (
            "methods.cp3.dim=1",
            "configs/methods: no method 'cp3' (from --set methods.cp3.dim=1); did",
        ),
        (
            "checkpoints.moco.layout=timm",
            "no checkpoint 'moco' (from --set checkpoints.moco.layout=",
        ),
        ("classes.voc.name=voc", "no class 'voc' (from --set classes.voc.name=voc); did you mean"),
        ("method.cp2.dim=1", "no section 'method'; did you mean 'methods'? allowed: backbones"),
        ("methods.cp2=3", "methods.cp2: must be keys and values, found a whole number"),
        ("methods=3", "methods: must be keys and values, found a whole number"),
        ("campaign=3", "write campaign.key=value"),
        ("campaign.overrides.methods.cp2.dim=1", "section.name.key=value for an override"),
        ("nonsense", "write section.name.key=value, for example protocols."),
        ("a..b=1", "write section.name.key=value, for example protocols."),
        ("methods.cp2.dim=[", "not valid YAML: line "),
    ],
)
def test_assignments_that_lead_nowhere(assignment, expected, tmp_path):
    message = refusal(tmp_path, BASE, assignment)
    assert expected in message
    assert "--set" in message


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ("3", "overrides: must be keys and values, found a whole number"),
        ("{method: {cp2: {dim: 1}}}", "overrides.method: unknown; did you mean 'methods'?"),
        ("{methods: [1]}", "overrides.methods: must be keys and values, found a list"),
        ("{methods: {cp2: }}", "overrides.methods.cp2: must be keys and values, found nothing"),
        ("{methods: {cp: {dim: 1}}}", "no method 'cp' (from my.yaml (overrides)); did you mean"),
        ("{datasets: {mine: {kind: images, title: t}}}", "kind images needs root: the folder"),
        ("{datasets: {mine: {kind: voc2012, title: t, classes: voc2012}}}", "needs archives"),
        (
            "{datasets: {voc2012: {root: /data}}}",
            "root is for kinds images, labelled, folders, voc, coco-json, not",
        ),
        ("{datasets: {m: {kind: labelled, title: t, root: /data}}}", "kind labelled needs classes"),
        ("{datasets: {mine: {root: /data}}}", "no dataset 'mine'"),
    ],
)
def test_overrides_that_lead_nowhere(overrides, expected, tmp_path):
    message = refusal(tmp_path, f"{BASE}overrides: {overrides}\n")
    assert expected in message
    assert "my.yaml" in message


def test_unused_overrides_are_checked_too(tmp_path):
    message = refusal(tmp_path, BASE + "overrides: {protocols: {cp2: {ampp: bf16}}}\n")
    assert "protocols.cp2.ampp = 'bf16': unknown key; did you mean 'amp'?" in message


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dmo", "campaign 'dmo': no file configs/dmo.yaml; did you mean 'demo'? allowed: demo, de"),
        ("there/my.yaml", "no file there/my.yaml"),
    ],
)
def test_unknown_campaign(name, expected):
    with pytest.raises(UserError) as caught:
        load_campaign(name, (), CONFIGS)
    assert expected in str(caught.value).replace(str(CONFIGS), "configs")


@pytest.mark.parametrize(
    ("section", "name", "near"),
    [
        ("table", "cp2_fnc", "cp2_fcn"),
        ("dataset", "vco2012", "voc2012"),
        ("head", "deeplab", "deeplabv3"),
        ("protocol", "smal", "small"),
        ("backbone", "resnet51", "resnet50"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(section, name, near, tmp_path):
    with pytest.raises(UserError, match=f"no {section} '{name}'.*did you mean '{near}'"):
        getattr(load(tmp_path), section)(name)


def test_settings_cannot_be_changed_afterwards(tmp_path):
    with pytest.raises(ValueError, match="frozen"):
        load(tmp_path).campaign.scale = "paper"


def test_changes_of_a_row_are_named_as_such(tmp_path):
    with pytest.raises(UserError, match=r"as changed by a table row: methods\.cp2\.dims = 3"):
        load(tmp_path).method("cp2", {"dims": 3})


def test_paths_of_a_configuration(tmp_path):
    configuration = load(tmp_path)
    assert configuration.results == Path("results")
    assert configuration.reports == Path("reports/my")
    assert configuration.world_folder == Path("results/world")
    assert configuration.used("labelled") == "voc2012-train"
    assert configuration.used("resnet18") == "resnet18"


@pytest.mark.parametrize("name", ["a\nb", "a|b", "a\x1b[31m", "a\u200bb", "cafe\u0301"])
def test_names_of_classes_can_be_printed_and_told_apart(name):
    with pytest.raises(ValueError, match=r"no table can print|is there twice"):
        ClassList(name="x", classes=("caf\u00e9", name), palette=((0, 0, 0), (1, 1, 1)))


def test_label_values_name_classes_of_the_list(tmp_path):
    text = "datasets.camvid={kind: labelled, title: m, root: /tmp, classes: camvid, archives: [], "
    configuration = load(tmp_path, BASE, text + "counts: {}, label_values: {1: 70, 2: 255}}")
    with pytest.raises(UserError, match="label_values: 1: 70, but the class list camvid ends with"):
        Stages(configuration, Plan()).dataset("camvid")

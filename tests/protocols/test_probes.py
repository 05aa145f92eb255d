"""Probes of frozen features: against other solvers, slow loops, and from a plan to scores."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from campaigns import load
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torch.nn import functional as F

from cp2.costs.work import work_of
from cp2.data.index import Item, read_index
from cp2.data.labels import IGNORE
from cp2.data.preparers.registry import prepare
from cp2.errors import UserError
from cp2.plan.build import build_plan
from cp2.plan.graph import Plan, Run
from cp2.plan.protocols.linear_segmentation import RECIPES, ProbeRecipe
from cp2.plan.recipes import PretrainRecipe
from cp2.protocols import frozen_maps, knn, linear_segmentation
from cp2.protocols.frozen_maps import Positions, label_cells
from cp2.protocols.linear_segmentation import choose_l2, fit
from cp2.protocols.probe import probe_moments
from cp2.protocols.registry import evaluate
from cp2.record.metrics import read_metrics
from cp2.settings.campaign import Execution
from cp2.settings.datasets import DatasetSettings
from cp2.settings.protocols.probes import KnnSchedule, LinearSchedule, ProbeSchedule
from cp2.training.pretrain import build, export

COLOURS = np.array([[200, 30, 30], [30, 30, 200], [30, 200, 30]], np.uint8)
CLASSES = ("red", "blue", "never")
SIZE = (48, 32)
LINEAR = LinearSchedule(size=SIZE, l2=(0.1, 0.001))
KNN = KnnSchedule(size=SIZE, neighbours=3, bank=50)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Images of a red and a blue half, void in a corner: 12 to train, 4 to validate."""
    folder, rng, items = tmp_path / "datasets" / "halves", np.random.default_rng(0), []
    folder.mkdir(parents=True)
    for n in range(16):
        label = np.zeros((40, 60), np.uint8)
        label[:, 30:] = 1
        label = label if n % 2 else 1 - label
        picture = COLOURS[label] + rng.integers(0, 50, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{n:02d}.png")
        label[:8, :8] = IGNORE
        Image.fromarray(label).save(folder / f"{n:02d}-label.png")
        items.append(Item("train" if n < 12 else "val", f"{n:02d}.png", f"{n:02d}-label.png"))
    palette = tuple(tuple(map(int, colour)) for colour in COLOURS)
    tiny.write_labelled(folder, items, CLASSES, palette)  # type: ignore[arg-type]
    return tmp_path


def run_of(schedule: ProbeSchedule, kind: str = "linear-segmentation") -> Run:
    recipe = RECIPES[kind](
        dataset="halves",
        split="val",
        backbone=tiny.resnet(output_stride=16),
        head=None,
        schedule=schedule,
    )
    return Run("evaluate", f"halves-{kind}", "0" * 64, recipe, 0, ("dataset/halves",), {})


def scored(results: Path, run: Run) -> dict[str, Any]:
    evaluate(run, results, Execution(workers=0))
    scores: dict[str, Any] = json.loads(run.folder(results).scores.read_text())
    return scores


@pytest.mark.parametrize(("schedule", "kind"), [(LINEAR, "linear-segmentation"), (KNN, "knn")])
def test_halves_are_told_apart_and_each_time_alike(
    results: Path, schedule: ProbeSchedule, kind: str
) -> None:
    run = run_of(schedule, kind)
    found = scored(results, run)
    assert found["metrics"]["accuracy"] > 0.85  # chance is a half
    assert found["per_class"]["never"] is None
    assert found["without_training_positions"] == ["never"]
    assert not run.folder(results).state.exists()
    assert scored(results, run) == found


def test_a_killed_probe_keeps_its_features(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(LINEAR)
    expected = scored(results, run)

    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(linear_segmentation, "choose_l2", killed)
        with pytest.raises(KeyboardInterrupt):
            scored(results, run)
    monkeypatch.setattr(frozen_maps, "decode_pair", killed)
    assert scored(results, run) == expected


def test_a_share_of_the_labels_is_one_of_the_training_images_alone(results: Path) -> None:
    half = KnnSchedule(size=SIZE, neighbours=3, bank=50, label_fraction=0.5)
    run, index = run_of(half, "knn"), read_index(results / "datasets" / "halves")
    extraction = frozen_maps.Extraction(
        torch.nn.Identity(), recipe_of(run), index, torch.device("cpu"), 0
    )
    train, val = ([pair.image for pair in extraction.pairs(split)] for split in ("train", "val"))
    assert len(train) == 6
    assert train == [path for path in index.paths("train") if path in train]
    assert val == list(index.paths("val"))
    assert scored(results, run)["images"] == 4


def test_images_with_a_class_are_one_position_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Accuracies are those of scikit-learn on the means of the last maps."""
    rng = np.random.default_rng(0)
    for n in range(30):
        kind = n % 3
        pixels = COLOURS[kind] * 0.3 + rng.integers(0, 160, (40, 60, 3))
        folder = tmp_path / "own" / ("train" if n < 21 else "val") / "abc"[kind]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{n:02d}.png")
    settings = DatasetSettings(kind="folders", name="halves", title="", root=f"{tmp_path}/own")
    prepare(settings, None, tmp_path / "datasets" / "halves")
    run = run_of(LinearSchedule(size=SIZE, l2=(0.01,)))
    index = read_index(tmp_path / "datasets" / "halves")
    network = frozen_maps.frozen_network(recipe_of(run), None, 0)
    means = {}
    for split in ("train", "val"):
        images = [np.array(Image.open(path)) for path in index.paths(split)]
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        pixels = F.interpolate(pixels, SIZE, mode="bilinear", antialias=True)
        with torch.no_grad():
            maps = network(frozen_maps.normalize(pixels.float() / 255))
        means[split] = maps.flatten(2).mean(2).double().numpy()
    classes = index.image_classes("train"), index.image_classes("val")
    centre, scale = means["train"].mean(0), means["train"].std(0, ddof=1).clip(1e-6)
    train, val = ((means[split] - centre) / scale for split in ("train", "val"))
    other = LogisticRegression(C=1 / (0.01 * 21), solver="newton-cholesky", tol=1e-8)
    expected = other.fit(train, classes[0]).score(val, classes[1])
    found = scored(tmp_path, run)
    assert found["metrics"]["accuracy"] == pytest.approx(expected)
    assert found["images"] == 9
    nearest = KNeighborsClassifier(1, metric="cosine").fit(means["train"], classes[0])
    assert f"accuracy {100 * expected:.3f} percent on 9" in capsys.readouterr().out
    one = run_of(KnnSchedule(size=SIZE, neighbours=1), "knn")
    expected = nearest.score(means["val"], classes[1])
    assert scored(tmp_path, one)["metrics"]["accuracy"] == pytest.approx(expected)


def blobs(positions: int = 3000, width: int = 12, classes: int = 4) -> tuple[Any, Any]:
    """Overlapping clouds, of features of other scales and shifts."""
    rng = np.random.default_rng(3)
    labels = rng.choice(classes, positions, p=[0.6, 0.25, 0.1, 0.05])
    centres = rng.normal(size=(classes, width))
    features = centres[labels] + rng.normal(size=(positions, width)) * 1.5
    features = features * rng.uniform(0.1, 5, width) + rng.normal(size=width) * 3
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


@pytest.mark.parametrize("l2", [0.1, 1e-3])
def test_the_optimum_is_that_of_another_solver(l2: float) -> None:
    features, labels = blobs()
    found = fit(features, labels, [l2], LinearSchedule())[0]
    standard = (features - features.mean(0)) / features.std(0)
    other = LogisticRegression(C=1 / (l2 * len(labels)), solver="newton-cholesky", tol=1e-8)
    standard = standard.double()
    other.fit(standard.numpy(), labels.numpy())
    logits = features @ found.weights.T + found.biases
    shares = torch.softmax(logits, 1).numpy()
    np.testing.assert_allclose(shares, other.predict_proba(standard.numpy()), atol=2e-3)
    assert (logits.argmax(1).numpy() == other.predict(standard.numpy())).mean() > 0.999


def test_later_penalties_start_where_earlier_ones_ended_and_end_where_they_would_alone() -> None:
    features, labels = blobs()
    first, second = fit(features, labels, [0.1, 1e-3], LinearSchedule())
    assert second.weights.norm() > first.weights.norm()
    alone = fit(features, labels, [1e-3], LinearSchedule())[0]
    shares = [torch.softmax(features @ w.T + b, 1) for w, b in (second, alone)]
    torch.testing.assert_close(*shares, atol=2e-3, rtol=0)


def test_iterations_that_are_too_few_are_a_message() -> None:
    with pytest.raises(UserError, match=r"l2 0.001 did not converge within 3 iterations; raise"):
        fit(*blobs(), [1e-3], LinearSchedule(max_iterations=3))


def ascending(*_: Any, **__: Any) -> tuple[float, Any]:
    """A constant whose gradient promises more: no step of a line search lowers it."""
    return 1.0, np.ones(4 * 13)


def test_a_line_search_that_fails_is_no_convergence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_segmentation, "_loss", ascending)
    said = (
        r"l2 0.1 did not converge: L-BFGS says ABNORMAL.* largest entry is 1\.0e\+00; raise toler"
    )
    with pytest.raises(UserError, match=said):
        fit(*blobs(), [0.1], LinearSchedule())


def test_what_fails_behind_a_stronger_penalty_is_said_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = linear_segmentation._loss

    def broken(*given: Any, penalty: float, **more: Any) -> Any:
        return ascending() if penalty == 0.01 else real(*given, penalty=penalty, **more)

    alone = fit(*blobs(), [0.1], LinearSchedule())
    monkeypatch.setattr(linear_segmentation, "_loss", broken)
    found = fit(*blobs(), [0.1, 0.01, 0.001], LinearSchedule())
    assert len(found) == 1
    torch.testing.assert_close(found[0], alone[0], atol=0, rtol=0)
    said = capsys.readouterr().out
    assert "l2 0.01 did not converge: L-BFGS says ABNORMAL" in said
    assert said.endswith("; the best of the stronger ones is taken\n")


def test_too_many_values_of_the_loss_are_no_convergence(monkeypatch: pytest.MonkeyPatch) -> None:
    real, limits = linear_segmentation.minimize, []

    def limited(*given: Any, options: dict[str, Any], **more: Any) -> Any:
        limits.append(options["maxfun"])
        return real(*given, options=options | {"maxfun": 3}, **more)

    monkeypatch.setattr(linear_segmentation, "minimize", limited)
    said = (
        r"l2 0.001 did not converge: L-BFGS says STOP: .*EVALUATIONS EXCEEDS LIMIT after \d+ iter"
    )
    with pytest.raises(UserError, match=said):
        fit(*blobs(), [1e-3], LinearSchedule(max_iterations=20_000))
    assert limits[0] > 20 * 20_000  # steps of so many line searches


def test_a_tolerance_that_float32_cannot_reach_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    fit(*blobs(), [0.1], LinearSchedule())
    assert capsys.readouterr().out == ""
    fit(*blobs(), [0.1], LinearSchedule(tolerance=1e-12))
    said = "l2 0.1 ended where float32 tells no lower loss: the gradient's largest entry is"
    assert said in capsys.readouterr().out


def test_a_line_search_that_rounding_alone_fails_goes_on_in_double(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where values are too coarse for the last steps, the optimum is found all the same."""
    real, kinds = linear_segmentation._loss, []

    def coarse(flat: Any, *, inputs: torch.Tensor, **more: Any) -> Any:
        kinds.append(inputs.dtype)
        value, gradient = real(flat, inputs=inputs, **more)
        return (round(value, 1) if inputs.dtype == torch.float32 else value), gradient

    expected = fit(*blobs(), [0.1], LinearSchedule())[0]
    monkeypatch.setattr(linear_segmentation, "_loss", coarse)
    found = fit(*blobs(), [0.1], LinearSchedule())[0]
    assert kinds[0] == torch.float32
    assert kinds[-1] == torch.float64
    features = blobs()[0]
    shares = [torch.softmax(features @ w.T + b, 1) for w, b in (found, expected)]
    torch.testing.assert_close(*shares, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("l2", "note"),
    [
        ((0.1, 0.1**2, 0.1**3), "the strongest penalty of the grid, 0.1, was chosen: a stronger"),
        ((0.1**2, 0.1, 1), ""),
        ((0.1, 1, 10), "the weakest penalty of the grid, 0.1, was chosen: a weaker one may score"),
        ((0.1,), ""),
    ],
)
def test_a_choice_at_the_edge_of_the_grid_is_said(
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    l2: tuple[float, ...],
    note: str,
) -> None:
    """Nothing but the sentence is added; what it names is a setting."""
    chosen = (0.1, [0.5] * len(l2) if len(l2) > 1 else [])
    monkeypatch.setattr(linear_segmentation, "choose_l2", lambda *_: chosen)
    found = scored(results, run_of(LINEAR.model_copy(update={"l2": l2})))
    said = found.pop("l2_note", "")
    assert said.startswith(note)
    assert bool(said) == bool(note)
    assert said in capsys.readouterr().out
    alone = scored(results, run_of(LINEAR.model_copy(update={"l2": (0.01, 0.1, 1.0)})))
    assert found == alone | {"held_out_miou": chosen[1]}
    if said:
        key = said.split("; ")[1].removesuffix(" is the grid")
        assert key == "protocols.<protocol>.datasets.<data set>.l2"
        key = key.replace("<protocol>", "linear").replace("<data set>", "labelled")
        plan = build_plan(load(tmp_path, CAMPAIGN.format(root=tmp_path), f"{key}=[3, 2]"))
        schedules = [recipe_of(run).schedule for run in probes_of(plan)]
        assert {one.l2 for one in schedules if isinstance(one, LinearSchedule)} == {(3, 2)}


def test_a_weak_penalty_that_does_not_converge_is_not_chosen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Separable classes want none; the iterations are enough for the strong penalty alone."""
    images = torch.arange(20)[:, None, None] % 2
    classes = images.expand(20, 2, 2).to(torch.uint8)
    maps = torch.randn(20, 6, 2, 2, generator=torch.Generator().manual_seed(0))
    maps[:, 0] += 4 * classes
    schedule = LinearSchedule(l2=(1.0, 1e-9), max_iterations=10)
    l2, curve = choose_l2(Positions(maps, classes), schedule)
    assert (l2, len(curve)) == (1.0, 1)
    assert "l2 1e-09 did not converge within 10 iterations" in capsys.readouterr().out


def slow_miou(answers: list[int], predicted: list[int]) -> float:
    """Mean over the classes of intersection over union."""
    pairs, shares = list(zip(answers, predicted, strict=True)), []
    for k in {*answers, *predicted}:
        both = sum(a == k and p == k for a, p in pairs)
        shares.append(both / sum(k in pair for pair in pairs))
    return sum(shares) / len(shares)


def test_the_penalty_is_chosen_on_held_out_images() -> None:
    """Much noise: a weak penalty learns them by heart, a stronger one does not.

    Another solver fits to the first three of each four images; the fourth chooses.
    """
    rng = torch.Generator().manual_seed(1)
    maps = torch.randn(16, 24, 3, 3, generator=rng)
    classes = torch.randint(0, 3, (16, 3, 3), generator=rng).to(torch.uint8)
    maps[:, :3] += 2 * F.one_hot(classes.long(), 3).permute(0, 3, 1, 2)
    classes[:, 0, 0] = IGNORE
    schedule = LinearSchedule(l2=(3.0, 0.1, 1e-3), held_out=0.25)
    points: dict[bool, Any] = {True: ([], []), False: ([], [])}
    for n in range(16):
        for y in range(3):
            for x in range(3):
                if classes[n, y, x] != IGNORE:
                    points[n in (3, 7, 11, 15)][0].append(maps[n, :, y, x].double().numpy())
                    points[n in (3, 7, 11, 15)][1].append(int(classes[n, y, x]))
    (fitted, answers), (held, held_answers) = points[False], points[True]
    centre, scale = np.mean(fitted, 0), np.std(fitted, 0, ddof=1)
    on_fitted, on_held = [], []
    for l2 in schedule.l2:
        other = LogisticRegression(C=1 / (l2 * len(fitted)), solver="newton-cholesky", tol=1e-8)
        other.fit((fitted - centre) / scale, answers)
        on_fitted.append(slow_miou(answers, other.predict((fitted - centre) / scale).tolist()))
        on_held.append(slow_miou(held_answers, other.predict((held - centre) / scale).tolist()))
    assert np.argmax(on_fitted) == 2
    assert np.argmax(on_held) == 1
    l2, curve = choose_l2(Positions(maps, classes), schedule)
    assert l2 == 0.1
    assert curve == pytest.approx(on_held)


def test_where_no_penalty_can_be_chosen_the_first_is_taken() -> None:
    rng = torch.Generator().manual_seed(0)
    maps = torch.randn(10, 40, 4, 4, generator=rng)
    classes = torch.randint(0, 3, (10, 4, 4), generator=rng).to(torch.uint8)
    schedule = LinearSchedule(l2=(1e-4, 10.0), held_out=0.3)
    assert choose_l2(Positions(maps, classes), LinearSchedule(l2=(0.5,))) == (0.5, [])
    nothing = torch.full_like(classes, IGNORE)
    assert choose_l2(Positions(maps, nothing), schedule) == (1e-4, [])


@pytest.mark.parametrize("shape", [(2, 3), (5, 7), (1, 1)])
def test_cells_have_the_class_of_most_of_their_pixels(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    label = torch.from_numpy(rng.choice([0, 1, 2, IGNORE], (11, 13)).astype(np.uint8))
    label[:6, :5] = IGNORE
    found = label_cells(label, shape, 3)
    for row in range(shape[0]):
        for column in range(shape[1]):
            inside = [
                int(label[y, x])
                for y in range(11)
                for x in range(13)
                if int((y + 0.5) / 11 * shape[0]) == row
                and int((x + 0.5) / 13 * shape[1]) == column
                and label[y, x] != IGNORE
            ]
            counts = [inside.count(k) for k in range(3)]
            wanted = counts.index(max(counts)) if inside else IGNORE
            assert found[row, column] == wanted


def test_votes_are_those_of_the_nearest_by_another_search() -> None:
    rng = torch.Generator().manual_seed(1)
    bank = F.normalize(torch.randn(60, 8, generator=rng), dim=1)
    classes = torch.randint(0, 4, (60,), generator=rng)
    features = torch.randn(8, 3, 2, generator=rng)
    schedule = KnnSchedule(neighbours=5)
    found = knn.votes(features, bank, classes, 4, schedule)
    search = NearestNeighbors(n_neighbors=5, metric="cosine").fit(bank.numpy())
    for y in range(3):
        for x in range(2):
            away, near = search.kneighbors(features[:, y, x].numpy()[None])
            weights = np.exp((1 - away[0]) / schedule.temperature)
            shares = [
                weights[classes[near[0]].numpy() == k].sum() / weights.sum() for k in range(4)
            ]
            np.testing.assert_allclose(found[:, y, x].numpy(), shares, atol=1e-5)


@pytest.mark.parametrize(("bank", "kept"), [(7, 7), (16, 16), (31, 31), (50, 33)])
def test_a_bank_is_spread_evenly_over_the_labelled_positions(bank: int, kept: int) -> None:
    """Each position has a direction and a class of its own: those that find theirs are in it."""
    places = torch.arange(36)
    maps = torch.eye(36).view(36, 36, 1, 1)
    classes = torch.where(places % 12 == 5, IGNORE, places).to(torch.uint8).view(36, 1, 1)
    found: dict[str, Any] = {}
    names = tuple(map(str, places.tolist()))
    extraction: Any = SimpleNamespace(
        recipe=SimpleNamespace(schedule=KnnSchedule(neighbours=1, bank=bank)),
        index=SimpleNamespace(classes=names, record=SimpleNamespace(name="own")),
        scored=lambda maps, more: found.update(more, maps=list(maps)),
    )
    train = Positions(maps, classes)
    knn.probe(extraction, train, train)
    inside = [n for n, one in enumerate(found["maps"]) if one[n] == 1 and classes[n] != IGNORE]
    assert found["bank"] == len(inside) == kept
    labelled = [n for n in range(36) if classes[n] != IGNORE]
    ranks = [labelled.index(n) for n in inside]
    gaps = np.diff([*ranks, ranks[0] + len(labelled)])  # the last: around the end
    assert gaps.max() - gaps.min() <= 1


def test_what_cannot_be_probed_is_a_message(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = "neighbours 20, but the bank has 7 labelled positions of 12 training images; lower"
    with pytest.raises(UserError, match=few):
        scored(results, run_of(KnnSchedule(size=SIZE, neighbours=20, bank=7), "knn"))
    monkeypatch.setattr(frozen_maps, "normalize", lambda pixels: pixels * float("nan"))
    match = r"of the backbone\) of .*00.png are not finite, the first in layer 0\.to_col"
    with pytest.raises(UserError, match=match):
        scored(results, run_of(LINEAR))
    monkeypatch.undo()
    for path in (results / "datasets/halves").glob("*-label.png"):
        Image.fromarray(np.full((40, 60), 1, np.uint8)).save(path)
    with pytest.raises(UserError, match="show 1 of 3 classes, a probe needs two; label more"):
        scored(results, run_of(LINEAR))


CAMPAIGN = """
title: probes
scale: mini
tables: [evidence_methods]
select: {{evidence_methods: {{rows: [random init, MoCo v2, CP2]}}}}
epochs: {{200: 2}}
substitute: {{labelled: halves, unlabelled: halves, resnet18: resnet-tiny, aspp-small: aspp-tiny}}
overrides:
  datasets:
    halves: {{kind: labelled, title: Halves, root: {root}, classes: voc2012}}
  methods:
    moco-v2: &small {{views: {{crop_size: 32}}, batch_size: 4, bn_group_size: 2, queue_size: 8}}
    cp2: *small
  protocols:
    linear: {{datasets: {{labelled: {{size: [48, 32]}}}}}}
execution: {{results: {root}, workers: 0}}
"""


def test_snapshots_of_a_run_become_a_curve(results: Path, tmp_path: Path) -> None:
    configuration = load(tmp_path, CAMPAIGN.format(root=tmp_path))
    plan = build_plan(configuration)
    execution, dataset = configuration.campaign.execution, plan.run("dataset", "halves")
    schedules = {"linear": ("linear-segmentation", LINEAR), "knn": ("knn", KNN)}
    moco, cp2 = plan.stage("pretrain")

    def lines(run: Run, *epochs: int, **changes: Any) -> list[str]:
        asked = {
            name: (kind, one.model_copy(update=changes)) for name, (kind, one) in schedules.items()
        }
        return list(probe_moments(run, dataset, asked, plan, results, execution, epochs))

    with pytest.raises(UserError, match="no weights of any epoch; there are: none"):
        lines(moco)
    for run in (moco, cp2):
        recipe = run.recipe
        assert isinstance(recipe, PretrainRecipe)
        (run.folder(results).path / "snapshots").mkdir(parents=True)
        for epoch in (1, 2):
            path = run.folder(results).path / f"snapshots/epoch-{epoch}.safetensors"
            export(build(recipe, results)[0], recipe, path, run.id)
    with pytest.raises(UserError, match=r"no weights of epoch 7; there are: 1, 2. execution.snap"):
        lines(moco, 1, 7)
    said = lines(moco)
    assert [line.split()[:2] for line in said] == [
        [f"epoch-{epoch}.safetensors", name] for epoch in (1, 2) for name in schedules
    ]
    again = lines(moco, 2)
    assert again == said[2:]
    kept = read_metrics(moco.folder(results).probes)
    assert [(line["step"], line["epoch"]) for line in kept] == [(3, 1), (6, 2)]  # 12 images by 4
    assert f"mIoU {100 * kept[1]['probe/halves/knn_miou']:.2f} " in again[1]
    start = lines(moco, 0)
    torch.manual_seed(moco.seed or 0)
    assert isinstance(moco.recipe, PretrainRecipe)
    path = moco.folder(results).path / "snapshots/epoch-2.safetensors"
    export(build(moco.recipe, results)[0], moco.recipe, path, moco.id)
    assert [line.replace("-0.", "-2.") for line in start] == lines(moco, 2) != again
    assert {"probe/halves/linear_miou", "probe/halves/knn_miou"} <= set(
        read_metrics(moco.folder(results).probes)[0]
    )
    method = build(moco.recipe, results)[0]
    method.get_buffer(
        next(name for name, _ in method.named_buffers() if name.endswith("running_var"))
    ).fill_(-1)
    export(method, moco.recipe, path.with_name("epoch-1.safetensors"), moco.id)
    with pytest.raises(UserError, match=r"epoch-1.safetensors: features .* first in layer .*bn1"):
        lines(moco, 1)
    assert lines(cp2, 1, features="projection") != lines(cp2, 1, features="head")
    with pytest.raises(UserError, match=r"features head, but .* has no pretrained head; write"):
        lines(moco, 1, features="head")
    with pytest.raises(UserError, match=r"size \[50, 32\] is no multiple of 16, the stride of"):
        lines(moco, 1, size=(50, 32))


def recipe_of(run: Run) -> ProbeRecipe:
    assert isinstance(run.recipe, ProbeRecipe)
    return run.recipe


def probes_of(plan: Plan) -> list[Run]:
    return [run for run in plan.stage("evaluate") if isinstance(run.recipe, ProbeRecipe)]


def test_a_campaign_has_them_as_columns(results: Path, tmp_path: Path) -> None:
    plan = build_plan(load(tmp_path, CAMPAIGN.format(root=tmp_path)))
    probes = probes_of(plan)
    assert {recipe_of(run).schedule.size for run in probes} == {(48, 32), (160, 160)}
    assert len(probes) == 6
    assert all(work_of(run, plan, results) for run in probes)
    few = "[{name: few, dataset: labelled, protocol: knn, label_fraction: 0.5}]"
    columns = f"tables.evidence_methods.columns={few}"
    found = build_plan(load(tmp_path, CAMPAIGN.format(root=tmp_path), columns))
    assert {recipe_of(run).schedule.label_fraction for run in found.stage("evaluate")} == {0.5}

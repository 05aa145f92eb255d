"""pyproject.toml, environment.yml and requirements.lock ask for the same things."""

import itertools
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from cp2.cli.main import EXTRAS

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {
    "torch": "pytorch",
    "snakemake": "snakemake-minimal",
    "playwright": "playwright-python",
}
CONDA_ONLY = {"python", "pip"}


def _project() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [texts for name, texts in project["optional-dependencies"].items() if name != "all"]
    texts = [*project["dependencies"], *itertools.chain(*extras)]
    return {canonicalize_name(r.name): r for r in map(Requirement, texts)}


def _conda() -> dict[str, Requirement]:
    content = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    texts = [text for text in content["dependencies"] if isinstance(text, str)]
    return {r.name: r for r in map(Requirement, texts)}


LOCKS = ("requirements.lock", "requirements-dev.lock")


def _lines(lock: str) -> list[str]:
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def _lock(*locks: str) -> dict[str, Version]:
    pins = [line.split()[0].split("==") for lock in locks or LOCKS for line in _lines(lock)]
    return {canonicalize_name(name): Version(version) for name, version in pins}


def test_conda_environment_has_the_same_requirements():
    conda = _conda()
    wanted = {
        CONDA_NAMES.get(name, name): str(requirement.specifier)
        for name, requirement in _project().items()
    }
    found = {name: str(r.specifier) for name, r in conda.items() if name not in CONDA_ONLY}
    assert found == wanted


def test_conda_environment_has_the_same_python():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert str(_conda()["python"].specifier) == project["requires-python"]


@pytest.mark.parametrize("name", sorted(_project()))
def test_lock_pins_a_version_that_is_allowed(name):
    assert _lock()[name] in _project()[name].specifier


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_is_exact_sorted_and_has_hashes(lock):
    pins = _lines(lock)
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}", pin) for pin in pins)
    assert pins == sorted(pins, key=str.lower)


def test_the_program_s_lock_has_what_it_needs_and_the_other_only_what_tests_need():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    dev = {canonicalize_name(Requirement(text).name) for text in extras["dev"]}
    needed, tools = (set(_lock(lock)) for lock in LOCKS)
    assert set(_project()) - dev <= needed
    assert not needed & tools
    assert dev <= needed | tools


def test_the_lock_is_what_is_installed_and_lacks_nothing():
    """Packages that the locked ones ask for, here and now, are locked, too."""
    lock = _lock()
    for name in _lock("requirements.lock"):
        for text in requires(name) or []:
            asked = Requirement(text)
            if asked.marker is None or asked.marker.evaluate({"extra": ""}):
                assert canonicalize_name(asked.name) in lock, (name, text)


def test_lock_suits_snakemake():
    """snakemake 9 refuses packaging 26; pip installs it, if asked for packages one by one."""
    assert _lock()["packaging"] < Version("26")


def test_extras_bring_what_the_message_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    (every,) = map(Requirement, extras["all"])
    assert every.extras == set(extras) - {"all", "dev"} == set(EXTRAS)
    for extra, modules in EXTRAS.items():
        brought = {Requirement(text).name for text in extras[extra]}
        assert set(modules) == {name for name in brought if not name.startswith("snakemake")}


CORE = """
import sys
sys.modules.update(dict.fromkeys({modules}))  # none of them can be imported
from cp2.cli.main import main
import cp2.methods.registry, cp2.models.export.run, cp2.training.pretrain
import cp2.protocols.knn, cp2.protocols.segmentation, cp2.protocols.svm
for words in ("plan", "table mini_segmentation"):
    sys.argv = ["cp2", *words.split(), "--campaign", "mini"]
    try:
        main()
    except SystemExit as end:
        print(end.code)
"""


def test_the_core_works_without_extras_and_says_which_is_missing() -> None:
    modules = [*itertools.chain(*EXTRAS.values()), "snakemake"]
    code = CORE.format(modules=modules)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-2:] == ["0", "2"], done.stderr
    wanted = "error: this needs pandas, which is not installed; pip install 'cp2-reproduction[wor"
    assert wanted in done.stderr


def test_mlflow_alone_may_be_missing() -> None:
    code = (
        "import sys; sys.modules['mlflow'] = None; sys.argv = ['cp2', 'track', '-c', 'mini'];"
        "from cp2.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert "MLflow is not installed: pip install 'cp2-reproduction[mlflow]'" in done.stderr


def test_the_page_on_installing_names_the_locked_torch() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    lock = _lock()
    assert f"torch=={lock['torch']} torchvision=={lock['torchvision']} --index-url" in page


def test_containers_and_the_hosted_ci_do_what_the_page_says() -> None:
    install = "--no-deps -r /src/requirements.lock && pip install --no-deps /src"
    for name in ("Dockerfile", "apptainer.def"):
        assert install in (ROOT / name).read_text(encoding="utf-8")
    copied = re.findall(r"^    (\S+) /src/\1$", (ROOT / "apptainer.def").read_text(), re.MULTILINE)
    assert len(copied) == 10
    assert all((ROOT / path).exists() for path in copied)
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    assert {"run": ".ci/run"} in workflow["jobs"]["check"]["steps"]


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == project["version"]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    dated = re.findall(r"^## (\S+) \(\d{4}-\d\d-\d\d\)$", changes, re.MULTILINE)
    assert dated[0] == project["version"]

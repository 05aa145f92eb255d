# make demo · make test · make check · make fuzz · make mlflow · make docs · make clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# The locks are of Linux x86-64 and Python 3.11; elsewhere pip chooses.
LOCKED := $(filter Linux-x86_64-3.11.%,$(shell $(PYTHON) -c "import platform as p; \
	print(p.system(), p.machine(), p.python_version(), sep='-')"))
SNAKEMAKE := $(BIN)/snakemake --workflow-profile workflow/profiles/local
CAMPAIGN ?= demo
IMAGES ?=
FIGURES ?= benchmarks/results
SECONDS ?= 600
TARGETS ?=
SITE ?= build/docs
PAGES := $(wildcard *.md docs/*.md re*/README.md) docs/pictures $(wildcard benchmarks/results/*.md benchmarks/results/*.txt) \
	$(wildcard benchmarks/evidence/*.png benchmarks/evidence/*.csv) configs/demo.yaml configs/throughput/published.yaml

.PHONY: demo demo-full test check fuzz mlflow docs bench unlock clean
.DEFAULT_GOAL := demo

# The stamp is newer than the lock only after a whole installation.
$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(if $(LOCKED),$(PIP) --no-deps -r requirements.lock && $(PIP) --no-deps --editable .,$(PIP) --editable ".[all]")
	touch $@

$(VENV)/developed: $(VENV)/installed requirements-dev.lock  # tests and linters, too
	$(if $(LOCKED),$(PIP) --no-deps -r requirements-dev.lock,$(PIP) --editable ".[all,dev]")
	touch $@

demo: $(VENV)/installed  ## the whole pipeline on the built-in world
	$(SNAKEMAKE) --quiet rules --config campaign=$(CAMPAIGN)
	@echo "report: $(CURDIR)/reports/$(CAMPAIGN)/index.html"

demo-full: ; $(MAKE) demo CAMPAIGN=demo_full  ## every table of CP² at the demo's scale

# By files: a file's tests share what they trained. (pytest 9.2 sends groups of pytest-xdist 3.8 to any worker.)
# Five on two cores: the four longest files wait for a scheduler, and come first (tests/conftest.py).
# Bytecode is written, also where the user's shell says no: hundreds of processes import the package.
test: $(VENV)/developed  ## the whole test-suite
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 5 --dist loadfile --no-loadscope-reorder

check: $(VENV)/developed  ## lint, types, format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

fuzz: $(VENV)/developed  ## changed files against every reader, SECONDS each; TARGETS="torch yaml"
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/fuzz.py $(TARGETS) --seconds $(SECONDS)

mlflow: $(VENV)/installed  ## import the runs and open the MLflow UI
	$(BIN)/python -m cp2 track --campaign $(CAMPAIGN)
	MLFLOW_DISABLE_TELEMETRY=true $(BIN)/mlflow ui --backend-store-uri sqlite:///results/mlflow.db

docs: $(VENV)/developed  ## the documents as a site; a link that leads nowhere fails
	rm -rf $(SITE) && mkdir -p $(SITE)/pages && cp docs/mkdocs.yml $(SITE)
	tar -c $(PAGES) | tar -x -C $(SITE)/pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file $(SITE)/mkdocs.yml
	@echo "site: $(abspath $(SITE))/site/index.html"

bench: $(VENV)/installed  ## speed beside the published recipe, as far as this machine goes
	failed=; for part in data step pretrain numerics finetune evaluate; do \
		$(BIN)/python -m benchmarks $$part $(IMAGES) --json $(FIGURES) || failed="$$failed $$part"; \
	done; if [ "$$failed" ]; then echo "failed:$$failed" >&2; exit 1; fi

unlock: $(VENV)/installed  ## after a Snakemake that was killed on another host
	$(SNAKEMAKE) --unlock --config campaign=$(CAMPAIGN)

clean:  ## everything that runs made; the environment stays
	rm -rf results/[!R]* reports/demo* reports/mini* reports/paper* .snakemake build

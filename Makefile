# make demo, make test and make lint set themselves up: each makes the virtual
# environment .venv and installs the project into it, once.

VENV = .venv
PYTHON =
# These two reach the recipe as they were typed, through its environment.
export IMAGES =
export CLUSTERS =
DEMO_DIR = demo-out
PYTEST_ARGS = -n 2

STAMPS = /usr/share/tuxpaint/stamps/animals
BIN = $(VENV)/bin
PIP = "$(BIN)/python" -m pip --disable-pip-version-check
MACHINE = . tools/machine.sh

RESULTS_DIR = results-out
SEEDS = 5
TAILS = 10,50
PEERS = sklearn-kmeans,ward,spectral,umap-kmeans,umap-hdbscan,evoc

.PHONY: help demo test lint results clean FORCE
# Two installations into one environment at a time would break it.
.NOTPARALLEL:

help:
	@echo "make demo    cluster the pictures of a Debian package; print where the report is"
	@echo "             IMAGES=folder clusters a folder of your own, CLUSTERS=number into as many"
	@echo "make test    run the tests; PYTEST_ARGS='-k name' runs some"
	@echo "make lint    check style, format and types"
	@echo "make results IMAGES=folder,folder  score every level, filter, baseline and peer over SEEDS seeds"
	@echo "             on folders whose sub-folders are classes; writes docs/results.md"
	@echo "             and docs/convergence.md"
	@echo "make clean   remove the virtual environment, the demo's output and caches"
	@echo "PYTHON=path  takes that interpreter, 3.11 or later, for the virtual environment"

# The environment is made anew where it does not run any more or where another
# interpreter is asked for than the one it was made with.
runs := $(shell "$(BIN)/python" -c "print('yes')" 2>/dev/null)
other := $(if $(PYTHON),$(filter-out $(shell cat "$(VENV)/.made-with" 2>/dev/null),$(PYTHON)))
ifneq ($(runs)$(other),yes)
$(VENV)/.made-with: FORCE
endif

$(VENV)/.made-with:
	@if [ -e "$(VENV)" ] && [ ! -e "$(VENV)/pyvenv.cfg" ]; then \
		echo "$(VENV) is there and is no virtual environment; move it away" >&2; exit 1; \
	fi
	@$(MACHINE) && python=$$(find_python "$(PYTHON)") && \
		echo "Making $(VENV) with $$python" && \
		rm -rf "$(VENV)" && "$$python" -m venv "$(VENV)" && \
		echo "$(or $(PYTHON),$$python)" >"$@"

$(VENV)/.installed-%: $(VENV)/.made-with pyproject.toml requirements.txt
	@echo "Installing the project$(if $(filter core,$*),, and what make $* needs) into $(VENV), about two minutes the first time"
	@$(PIP) install --quiet -e '.$(if $(filter core,$*),,[$*])'
	@touch "$@"

$(STAMPS):
	@$(MACHINE) && install_debian tuxpaint-stamps-default || { \
		echo "The demo's pictures, Debian's package tuxpaint-stamps-default, can't be installed from here." >&2; \
		echo "On Debian and Ubuntu: apt-get install --no-install-recommends tuxpaint-stamps-default" >&2; \
		echo "Or take pictures of your own: make demo IMAGES=/path/to/folder CLUSTERS=10" >&2; \
		exit 1; \
	}

demo: $(if $(IMAGES),,$(STAMPS)) $(VENV)/.installed-core
	@"$(BIN)/python" -m experiments.demo --workdir="$(DEMO_DIR)" \
		$${IMAGES:+"--images=$$IMAGES"} $${CLUSTERS:+"--num_clusters=$$CLUSTERS"}

test: $(VENV)/.installed-test
	"$(BIN)/python" -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed-lint
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/pyright" --pythonpath "$(BIN)/python"

results: $(VENV)/.installed-benchmarks $(VENV)/.installed-peers
	@if [ -z "$$IMAGES" ]; then \
		echo "Name the folders: make results IMAGES=/path/to/photos" >&2; exit 1; \
	fi
	@"$(BIN)/python" -m benchmarks.sweep "--images=$$IMAGES" --seeds=$(SEEDS) \
		--cache="$(RESULTS_DIR)/cache" --out="$(RESULTS_DIR)/runs" --long-tail=$(TAILS)
	@"$(BIN)/python" -m benchmarks.sweep "--images=$$IMAGES" --seeds=$(SEEDS) \
		--cache="$(RESULTS_DIR)/cache" --out="$(RESULTS_DIR)/runs" --only=$(PEERS)
	@"$(BIN)/python" -m benchmarks.results_page --runs="$(RESULTS_DIR)/runs" \
		--out=docs/results.md
	@"$(BIN)/python" -m benchmarks.convergence_page --runs="$(RESULTS_DIR)/runs" \
		--out=docs/convergence.md

clean:
	@if [ -e "$(VENV)/pyvenv.cfg" ]; then rm -rf "$(VENV)"; fi
	rm -rf "$(DEMO_DIR)" "$(RESULTS_DIR)" build dist *.egg-info .pytest_cache .ruff_cache
	find mca_jax experiments tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

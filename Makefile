# make demo · make test · make test-all · make lab · make notebooks · make bench · make lint
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
WORK_DIR ?= demo
PINS := requirements-cpu.txt requirements-unsloth.txt
# Named after what it pins: other pins, another stamp.
STAMP := $(VENV)/installed-$(shell cat $(PINS) | sha256sum | cut -c-16)
UV := $(PY) -m uv pip install --python $(PY)

export TOKENIZERS_PARALLELISM := false
# Some images set it, and then each start of Python compiles all that it imports: 25 s instead of 13 for unsloth and trl.
export PYTHONDONTWRITEBYTECODE :=
.PHONY: demo test test-all lab notebooks bench lint setup browser

demo: setup
	$(PY) -m helpers.pipeline run --work-dir $(WORK_DIR) --only 01,02,03,04,05,06,07,08
	$(PY) -m helpers.prove.chat $(WORK_DIR)/answers.jsonl

# Two processes with a thread each: what waits for kernels, servers and disks goes on beside what computes. In their
# own order, the files with few long tests do not come last, when one of the two would wait for the other.
test: lint browser
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests

# The proofs in their full size: more kills and seeds, 100,000 rows, and Python 3.13 where it is installed.
test-all: lint browser
	ALL=1 $(PY) -m pytest tests

# The chat page and JupyterLab are driven in a real browser; where there is none, Chromium is installed.
browser: setup
	@$(PY) -m tests.browser

lab: setup
	$(PY) -m jupyterlab notebooks

# Puts the clean copies of executed 00 and 09 and of the demo, outputs included, back into notebooks/.
notebooks: demo
	$(PY) -m helpers.pipeline run --work-dir $(WORK_DIR) --only 00,09
	for name in notebooks/*.ipynb; do \
		$(PY) -m helpers.pipeline.notebooks $(WORK_DIR)/executed/$$(basename $$name) $$name $(WORK_DIR) || exit 1; \
	done

bench: setup
	for name in training_speed head_loss memory one_sentence collect_memory reviews_to_chunks redaction publish stopping plans step_share one_token waiting installing shards; do $(PY) -m benchmarks.$$name || exit 1; done

# Besides the form of the code: lines per room and module, and imports that run one way.
lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m tests.house

setup: $(STAMP)
	@$(PY) -m helpers.train.local_gemma

# pip fetches uv, and torch, since it knows from its own settings where a CPU build lies; uv the other 220 packages.
$(STAMP):
	@$(PYTHON) -c "import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit(f'Python {v[0]}.{v[1]} is not supported: make PYTHON=python3.12')"
	@echo "Installing the pinned packages into $(VENV), once; a minute, or as long as the downloads take"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --no-deps --no-compile $$(grep -E "^(uv|torch)==" requirements-cpu.txt)
	$(UV) -r requirements-cpu.txt
	$(UV) --no-deps -r requirements-unsloth.txt
	@touch $@

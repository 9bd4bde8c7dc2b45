# make demo · make test · make test-all · make lab · make notebooks · make bench · make lint
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
WORK_DIR ?= demo
PINS := requirements-cpu.txt requirements-unsloth.txt
# One pass over the pairs instead of three, so that two cores need minutes, at a rate that suits a small model.
DEMO = -p num_train_epochs 1 -p learning_rate 1e-3

export TOKENIZERS_PARALLELISM := false
.PHONY: demo test test-all lab notebooks bench lint setup

demo: setup
	$(PY) -m helpers.pipeline run --work-dir $(WORK_DIR) --only 01,02,03,04,05,06,07,08 $(DEMO)
	$(PY) -m helpers.prove.chat $(WORK_DIR)/answers.jsonl

# Two processes with a thread each: what waits for kernels, servers and disks goes on beside what computes.
test: lint
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile tests

# The proofs in their full size: more kills and seeds, 100,000 rows, and Python 3.13 where it is installed.
test-all: lint
	ALL=1 $(PY) -m pytest tests

lab: setup
	$(PY) -m jupyterlab notebooks

# Puts the clean copies of executed 00 and 09 and of the demo, outputs included, back into notebooks/.
notebooks: demo
	$(PY) -m helpers.pipeline run --work-dir $(WORK_DIR) --only 00,09
	for name in notebooks/*.ipynb; do \
		$(PY) -m helpers.pipeline.notebooks clean $(WORK_DIR)/executed/$$(basename $$name) $$name --work-dir $(WORK_DIR) || exit 1; \
	done

bench: setup
	for name in training_speed head_loss memory one_sentence collect_memory reviews_to_chunks redaction publish stopping plans; do $(PY) -m benchmarks.$$name || exit 1; done

# Besides the form of the code: lines per room and module, and imports that run one way.
lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m tests.house

# The stamp holds the pins that were installed: a second run compares and goes on.
setup: $(VENV)/installed
	@$(PY) -m helpers.train.local_gemma

$(VENV)/installed: $(PINS)
	@$(PYTHON) -c "import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit(f'Python {v[0]}.{v[1]} is not supported: make PYTHON=python3.12')"
	@echo "Installing the pinned packages into $(VENV), once; two to five minutes"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --progress-bar on -r requirements-cpu.txt
	$(PY) -m pip install --no-deps -r requirements-unsloth.txt
	@touch $@

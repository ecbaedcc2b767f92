# What you can type. Each is a line or two over a tool; `make` alone lists them.
# Where there is no make (Windows), the README says what to type instead.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done || echo python3)
ARGS ?=
NAME =
PY := .venv/bin/python

.PHONY: help environment lab test curve experiments tune notebooks pictures bench lint lock

help:           ## this list
	@grep -E '^[a-z-]+: .*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 18

environment:    ## .venv with the tested versions (made once; every other command sees to it)
	@"$(PYTHON)" tools/setup_environment.py

lab: environment    ## JupyterLab on the notebooks; make lab ARGS="--no-browser --port 8899"
	@$(PY) -m utils.device
	@$(PY) -m jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks $(ARGS)

test: environment    ## every test, notebooks included; at the same time all of it with Colab's versions
	@$(PY) tools/run_tests.py $(ARGS)

curve: environment    ## train the small networks, print their table, write results and plot
	@$(PY) tools/curve.py $(ARGS)

experiments: environment    ## the lessons' reference experiments: which there are; make experiments NAME=curve
	@$(PY) tools/experiments.py $(NAME) $(ARGS)

tune: environment    ## which learning rate suits each arm of an experiment; make tune NAME=curve ARGS="--rates 0.1 0.2"
	@$(PY) tools/tune.py $(NAME) $(ARGS)

notebooks: environment    ## build the notebooks from lessons/ and execute them
	@$(PY) tools/build_notebooks.py $(ARGS)

pictures: environment    ## photograph the explorers for README and lessons
	@$(PY) tools/pictures.py $(ARGS)

bench: environment    ## how fast, beside the goals
	@$(PY) tools/bench.py $(ARGS)

lint: environment    ## ruff over code and notebooks
	@$(PY) -m ruff check .

lock: environment    ## compile requirements.txt anew from pyproject.toml
	@$(PY) tools/lock.py

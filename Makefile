# What you can type. Each is a line or two over a tool; `make` alone lists them.
# Where there is no make (Windows), the README says what to type instead.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c \
	'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done || echo python3)
ARGS ?=
NAME =
PY := .venv/bin/python

.PHONY: help environment lab test test-quick test-oldest test-newest test-elsewhere test-conda curve experiments tune \
	notebooks slides badges pictures bench lint links lock

help:           ## this list
	@grep -E '^[a-z-]+: .*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 22

environment:    ## .venv with the tested versions (made once; every other command sees to it)
	@"$(PYTHON)" tools/setup_environment.py

lab: environment    ## JupyterLab on the notebooks; make lab ARGS="--no-browser --port 8899"
	@$(PY) -m utils.device
	@$(PY) -m jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks $(ARGS)

test: environment    ## every test, notebooks included; at the same time what depends on versions with Colab's
	@$(PY) tools/run_tests.py $(ARGS)

test-quick: environment    ## the tests of everyday work, in under two minutes
	@$(PY) -m pytest -o addopts=--import-mode=importlib -m "not slow" -q tests $(ARGS)

test-oldest: environment    ## every test with the oldest versions that pyproject.toml admits
	@$(PY) tools/other_versions.py oldest $(ARGS)

test-newest: environment    ## every test with the newest versions that there are
	@$(PY) tools/other_versions.py newest $(ARGS)

test-elsewhere: environment    ## every test from a folder that can't be written, "Größer und tiefer"
	@$(PY) tools/elsewhere.py $(ARGS)

test-conda: environment    ## environment.yml and postBuild, and README's lines for pip, to the letter; a lesson run with each
	@$(PY) tools/conda_door.py $(ARGS)

curve: environment    ## train the small networks, print their table, write results and plot
	@$(PY) tools/curve.py $(ARGS)

experiments: environment    ## the lessons' reference experiments: which there are; make experiments NAME=curve
	@$(PY) tools/experiments.py $(NAME) $(ARGS)

tune: environment    ## which learning rate suits each arm of an experiment; make tune NAME=curve ARGS="--rates 0.1 0.2"
	@$(PY) tools/tune.py $(NAME) $(ARGS)

notebooks: environment    ## build the notebooks from lessons/ and execute them
	@$(PY) tools/build_notebooks.py $(ARGS)

slides: environment    ## a lesson as slides; make slides NAME=03_vgg_blocks TO=folder
	@test -z "$(NAME)" || test -e "notebooks/$(NAME).ipynb" || { \
	    echo "There is no lesson $(NAME); there are:" `cd notebooks; ls *.ipynb | sed 's/.ipynb$$//'` >&2; exit 2; }
	@$(PY) -m jupyter nbconvert --to slides --config tools/slides/config.py \
	    --output-dir "$(or $(TO),results/local/slides)" $(ARGS) notebooks/$(or $(NAME),*).ipynb

badges: environment    ## after a fork: write the address that pyproject.toml has into README, lessons and notebooks
	@$(PY) tools/badges.py $(ARGS)

pictures: environment    ## photograph the explorers for README and lessons
	@$(PY) tools/pictures.py $(ARGS)

bench: environment    ## how fast, beside the goals
	@$(PY) tools/bench.py $(ARGS)

lint: environment    ## what can be seen without running anything: ruff, stale notebooks, addresses, links
	@$(PY) tools/lint.py $(ARGS)

links: environment    ## the links of README, lessons and docstrings; make links ARGS=--fetch asks for each
	@$(PY) tools/links.py $(ARGS)

lock: environment    ## compile requirements.txt anew from pyproject.toml
	@$(PY) tools/lock.py

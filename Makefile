# The commands of the course; `make` lists them. All paths are relative, so the folder's own may hold spaces.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
LAB_ARGS ?=

PY := .venv/bin/python
FIRST = $(firstword $(sort $(wildcard notebooks/[0-9]*.ipynb)))
# A container's only user is often root, which JupyterLab refuses until told.
AS_ROOT = $(if $(filter 0,$(shell id -u)),--allow-root)
# The environment is stale when it was made elsewhere or for another Python ...
PLACE = { pwd -P; "$(PYTHON)" -V; $(PY) -V; } 2>&1
# ... and out of date when a requirement changed.
NEEDS = cat pyproject.toml $(CONSTRAINTS) | cksum

# On Linux: keep freed memory for the next training step; giving it back each time costs a fifth of it.
export MALLOC_MMAP_THRESHOLD_ = 1073741824
export MALLOC_TRIM_THRESHOLD_ = 2147483647

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup lab class test unit lessons browser build lint core bench plant train-judge train-mnist train-bits train-control train-one-step train-vae train-latent clean
.PHONY: .venv .venv/.installed-lab .venv/.installed-test

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do \
		printf 'make %-13s %s\n' "$$name" "$$text"; done

setup: .venv/.installed-test ## create .venv and install, if missing or stale (the others do this first)

.venv:
	@$(PLACE) | cmp -s - .venv/.place || { \
		"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
			echo 'Python 3.11 or newer is needed, as in: make lab PYTHON=python3.11' >&2; exit 1; }; \
		echo 'Creating .venv: some minutes, once.'; \
		"$(PYTHON)" -m venv --clear .venv && $(PLACE) > .venv/.place; }

# One stamp for each extra of pyproject.toml; what `test` installs holds what `lab` needs.
.venv/.installed-lab .venv/.installed-test: .venv
	@$(NEEDS) | cmp -s - .venv/.installed-test || $(NEEDS) | cmp -s - $@ || { \
		rm -f .venv/.installed-lab .venv/.installed-test; \
		$(PY) -m pip install $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e '.[$(@:.venv/.installed-%=%)]' && \
		$(NEEDS) > $@; }

lab: .venv/.installed-lab ## open JupyterLab at the first lesson, in your own copy of the lessons (work/)
	@$(PY) scripts/working_copy.py
	$(PY) -m jupyterlab --ServerApp.ip=127.0.0.1 --ServerApp.root_dir=. \
		--LabApp.default_url=/lab/tree/work/$(notdir $(FIRST)) $(AS_ROOT) $(LAB_ARGS)

class: setup ## copy the lessons without their answers to class/, with a page on each for a teacher
	$(PY) scripts/class_copy.py

test: unit lessons ## run every test: unit, then lessons

unit: setup ## run the unit tests, a process on each core (two minutes on two)
	OMP_NUM_THREADS=1 $(PY) -m pytest tests -n auto

lessons: setup ## run every lesson: in full, then briefly offline, then solved; print minutes
	$(PY) scripts/check_lessons.py
	$(PY) scripts/check_lessons.py --offline
	$(PY) scripts/check_lessons.py --solved

browser: setup ## try a slider in a real browser (needs Chromium)
	$(PY) -m pytest tests -m browser

build: setup ## build the notebooks that differ from notebooks/src
	$(PY) scripts/build_notebooks.py

lint: setup ## check style and formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

core: .venv ## install the core alone, elsewhere, and run README's program with it (needs a network)
	$(PY) scripts/check_core.py $(CONSTRAINTS)

bench: setup ## run the benchmarks, one after the other
	@for file in benchmarks/*.py; do echo "$$file" && $(PY) "$$file" || exit 1; done

plant: setup ## plant a mistake for each equation; its test must go red
	$(PY) scripts/plant_mistakes.py

train-judge: .venv/.installed-lab ## train the judge of digits (some minutes), then renew its hash in pretrained.py
	$(PY) scripts/train_judge.py

train-mnist: .venv/.installed-lab ## train the digits that come with the course (two and a half hours on one core); goes on where it stopped
	$(PY) scripts/train_mnist.py
	$(PY) scripts/train_mnist.py --network mnist_weak
	$(PY) scripts/train_mnist.py --network mnist_unlabelled

train-bits: .venv/.installed-lab ## train a network for the fewest bits per pixel (two hours on one core); goes on where it stopped
	$(PY) scripts/train_bits.py

train-control: .venv/.installed-lab ## train what steers the digits, by edges and by thumbnails (half an hour on two cores); goes on where it stopped
	$(PY) scripts/train_control.py --control edges
	$(PY) scripts/train_control.py --control thumbnail --epochs 6

train-one-step: .venv/.installed-lab ## train a student that goes to data in one call (a minute), then renew its hash in pretrained.py; goes on where it stopped
	$(PY) scripts/train_one_step.py --network student

train-vae: .venv/.installed-lab ## train the VAE of lesson 12 (some minutes on one core), then renew its hash; goes on where it stopped
	$(PY) scripts/train_vae.py

train-latent: .venv/.installed-lab ## train the U-Net and the transformer in its latents (some minutes each); goes on where it stopped
	$(PY) scripts/train_latent.py --network unet
	$(PY) scripts/train_latent.py --network dit

clean: ## remove .venv and caches
	rm -rf .venv build .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

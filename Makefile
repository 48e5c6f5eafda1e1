# Every target makes its own environment in .venv first, so that each works on a fresh machine with
# Python >= 3.11 and make.

SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
NOTEBOOKS := $(wildcard experiments/*.ipynb)
# Threads that wait must not spin: on a busy machine spinning costs up to ten times the time.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: table1 test test-slow book pdf smoke notebooks lint lock clean

# papermill ends with 0 when a cell calls sys.exit(), so the notebook itself is asked whether it ran to
# its end. Any other status of papermill's is kept: 138 is a killed kernel's.
FINISHED := $(BIN)/python -m nestbook.finished --status

# The main job: train and measure on the embedded digits, print Table 1.
table1: .venv/ready
	@mkdir -p runs/notebooks
	$(BIN)/papermill experiments/table1.ipynb runs/notebooks/table1.ipynb --stderr-file >(cat >&2); \
	  $(FINISHED) $$? runs/notebooks/table1.ipynb
	@cat runs/figures/table1.md
	@echo "Wrote runs/figures/table1.md, runs/figures/table1.svg, runs/notebooks/table1.ipynb"
	@echo "and the records under runs/records/; run again, it loads them."

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

# Tests of minutes: the book's build, runs through papermill and torchrun.
test-slow: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow

# Renders the committed, executed notebooks; computes nothing.
JUPYTER_BOOK := $(BIN)/jupyter-book build . --config _config.yml --toc book/_toc.yml \
  -W -n --keep-going --all
WIDGETS := book/_static/vendor/libembed-amd.js
HAS_WIDGETS := $(shell grep -ls vnd.jupyter.widget-state experiments/*.ipynb)
book: .venv/ready $(if $(HAS_WIDGETS),$(WIDGETS))
	@begin=$$SECONDS; $(JUPYTER_BOOK) && echo "Built in $$((SECONDS - begin)) s."
	@echo "Open _build/html/index.html"

$(WIDGETS): book/vendor.txt .venv/ready
	rm -rf _build/vendor
	$(BIN)/python -m pip download -q --no-deps --require-hashes -r $< -d _build/vendor
	$(BIN)/python -m zipfile -e _build/vendor/*.whl _build/vendor
	@mkdir -p $(@D)
	cp _build/vendor/shinywidgets/static/$(@F) $@

# The whole book as one file, printed by Chromium (on Debian: apt-get install chromium).
pdf: .venv/ready
	$(JUPYTER_BOOK) --builder singlehtml
	$(BIN)/python book/print_pdf.py _build/singlehtml _build/nest.pdf

# Every notebook's path in under a minute each, with no result. Now and then papermill waits for ever
# for a kernel that has ended its cell (ipykernel 7.4, nbclient 0.11): then it is called once more.
smoke: .venv/ready
	@mkdir -p runs/smoke
	@for notebook in $(NOTEBOOKS); do \
	  out=runs/smoke/$$(basename $$notebook); \
	  run="timeout 60 $(BIN)/papermill $$notebook $$out -p budget smoke"; \
	  $$run; status=$$?; \
	  if [ $$status = 124 ]; then $$run; status=$$?; fi; \
	  $(FINISHED) $$status --given $$out || exit; \
	done

# For maintainers: execute the notebooks in place, as the book shows them. This alone writes figures/
# and the README's results: from default parameters and committed records; nothing is run.
notebooks: export NESTLIB_PUBLISH := 1
notebooks: .venv/ready
	@set -e; cd experiments; for notebook in $(notdir $(NOTEBOOKS)); do \
	  ../$(BIN)/jupyter execute --inplace $$notebook; \
	  ../$(BIN)/jupyter nbconvert --log-level ERROR --to notebook --inplace $$notebook \
	    --TagRemovePreprocessor.enabled=True \
	    --TagRemovePreprocessor.remove_all_outputs_tags=remove-output; \
	  ../$(BIN)/nbstripout --keep-output --keep-count --keep-id \
	    --extra-keys "metadata.papermill cell.metadata.execution metadata.widgets" $$notebook; \
	done

lint: .venv/ready
	$(BIN)/ruff check nestlib experiments/nestbook tests book/_ext book/*.py setup.py
	$(BIN)/ruff format --check nestlib experiments/nestbook tests book/_ext book/*.py setup.py

# Names, versions and hashes of the whole environment, no addresses.
lock: .venv/ready
	$(BIN)/uv pip compile pyproject.toml --all-extras --generate-hashes --universal \
	  --python-version 3.11 --no-header -q -o requirements.lock

clean:
	rm -rf .venv _build runs/smoke

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	UV_COMPILE_BYTECODE=1 $(BIN)/uv pip install -q --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -e .
	@touch $@

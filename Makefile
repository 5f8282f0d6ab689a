# Two commands matter: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PEERS := .venv-peers
PEERS_PIP := $(PEERS)/bin/python -m pip --disable-pip-version-check
DOCS := .venv-docs
SOURCES := src tests benchmarks docs

.PHONY: demo setup web test check docs wheel bench peers frontier frontier-small clean

demo: $(VENV)/.installed
	$(BIN)/bedside demo -o demo-output

setup: $(VENV)/.installed

# The plain install: no torch.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt -e .
	touch $@

# torch comes first, pinned: see constraints.txt.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet -c constraints.txt torch
	$(PIP) install --quiet -c constraints.txt -e ".[onnx,train,serve,av,dev]"
	touch $@

# The browser's runtime and the viewer of scans, for `export --to web` and `serve`; needs npm.
web: $(VENV)/.installed
	$(BIN)/python -m bedside.web.vendor

# More processes than cores, each with one thread: tests of servers wait for half of their time.
# Tests start hundreds of processes, which would each compile what they import where bytecode is not
# kept.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 4 --dist worksteal

# The doors with the programs of others: dcmtk, Orthanc, Chromium. One that is missing is a failure.
test-doors: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= BEDSIDE_PEERS=required $(BIN)/python -m pytest -n 4 \
		--dist worksteal tests/service tests/dicom_node tests/http_api tests/web

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/check_file_sizes.py
	$(BIN)/python tests/check_imports.py

# Guides and API reference into build/docs; a broken link or a docstring that does not fit fails.
docs: $(DOCS)/.installed
	$(DOCS)/bin/python docs/build_site.py

$(DOCS)/.installed: pyproject.toml constraints.txt
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt -e ".[docs]"
	touch $@

# The wheel in empty environments: make wheel PYTHONS="python3.11 python3.12 python3.13"
wheel: $(VENV)/.installed
	$(BIN)/python tests/check_wheel.py $(PYTHONS)

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/network_latency.py
	$(BIN)/python benchmarks/cine.py
	$(BIN)/python benchmarks/pipeline_steps.py

# The classics beside ours: an environment of its own, see benchmarks/peers/README.md.
peers: $(PEERS)/.installed

# torch and torchvision come first: torchvision would ask for another build of torch.
$(PEERS)/.installed: pyproject.toml constraints.txt benchmarks/peers/requirements.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS_PIP) install --quiet -c constraints.txt torch
	$(PEERS_PIP) install --quiet --no-deps torchvision==0.28.0
	$(PEERS_PIP) install --quiet -c constraints.txt -e ".[train,dev]"
	$(PEERS_PIP) install --quiet -c constraints.txt -r benchmarks/peers/requirements.txt
	touch $@

# Table and plot anew: times are measured, accuracy is what trainings have left.
frontier: $(PEERS)/.installed
	PYTHONPATH=benchmarks $(PEERS)/bin/python benchmarks/frontier.py

# The newer small networks beside ours and the fast ones of the classics.
frontier-small: $(PEERS)/.installed
	PYTHONPATH=benchmarks $(PEERS)/bin/python benchmarks/frontier.py ours:nano ours:tiny ours:small \
		ours:base unet residual-unet-narrow residual-unet basic-unet-narrow mobilenetv3-unet fast-scnn \
		unext-s unext cmunext-s tiny-unet mk-unet ultraseg-130k mobile-uvit unet-stride4 \
		residual-unet-stride4 --threads 1 --rounds 16 --range 0.5 25 \
		--results benchmarks/results/camus-frontier benchmarks/results/camus-frontier-small \
		--latency benchmarks/results/camus-frontier-small-latency.json \
		--output benchmarks/frontier_small.md

# On another recipe's data, as in frontier-hc18 and frontier-acdc; the trainings are `peers.train NAME
# --recipe RECIPE --epochs 25 --rates 1e-3 2e-3 4e-3 --results benchmarks/results/RECIPE-frontier`.
frontier-%: $(PEERS)/.installed
	PYTHONPATH=benchmarks $(PEERS)/bin/python benchmarks/frontier.py ours:nano ours:tiny unet-stride4 \
		residual-unet-stride4 fast-scnn unext-s --recipe $* --threads 1 --rounds 16 --range 0.5 25 \
		--results benchmarks/results/$*-frontier \
		--latency benchmarks/results/$*-frontier-latency.json \
		--output benchmarks/frontier_$*.md

clean:
	rm -rf $(VENV) $(PEERS) $(DOCS) build demo-output

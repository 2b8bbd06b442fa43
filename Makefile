# Everything happens in .venv; a step runs again when what it depends on has changed.
PYTHON ?= python3
VENV ?= .venv
# The version the results in this project were made with; any release in setup.py's range works.
TORCH ?= torch==2.13.0
DEMO_ARGS ?=
PYTEST_ARGS ?=
# processes that share the tests
TEST_PROCESSES ?= 2
GPU_ARGS ?=
# results of gpu-check and gpu-train
GPU_OUT ?= out/gpu

BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadgroup
DONE := $(VENV)/.done
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
PACKAGING := setup.py setup.cfg pyproject.toml package.xml
INTERFACES := $(shell find ros_pip/interfaces -type f)
MODULES := $(shell find ros_pip/modules -name '*.py' -o -name pyproject.toml)
# OpenGL without a screen; a compiler and headers for the generated ROS messages
SYSTEM := libegl1 libgl1 libgl1-mesa-dri python3-venv python3-dev g++

export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.PHONY: help demo docs test test-noble test-slow lint types gpu-pack gpu-check gpu-train clean
.DELETE_ON_ERROR:

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(DONE)/runtime  ## synthetic camera, the real node, errors against the truth, a picture
	$(BIN)/mrcnet demo --output out/demo.png $(DEMO_ARGS)

test: lint types  ## style, types and every test but the slow ones
	$(PYTEST) $(PYTEST_ARGS)

test-noble: $(DONE)/noble  ## every test but the slow ones with the NumPy, SciPy, OpenCV and Pillow of Ubuntu 24.04
	PYTHONPATH="$$(cd "$(VENV)" && pwd)/noble" $(PYTEST) $(PYTEST_ARGS)

test-slow: $(DONE)/develop  ## tests that take minutes each: engines of the largest graphs
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

docs: $(DONE)/develop  ## the pages of docs/ as a site in out/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lint: $(DONE)/develop  ## style
	$(BIN)/ruff check .

types: $(DONE)/develop  ## types, strict
	$(BIN)/mypy

gpu-pack: $(DONE)/develop  ## gather in .gpu/ what a bare GPU machine lacks, see docs/gpu_check.md
	$(BIN)/python .ci/gpu/pack.py check train $(GPU_ARGS)

gpu-check:  ## prove on an NVIDIA GPU what a CPU cannot, 8 minutes; needs what docs/gpu_check.md lists
	$(PYTHON) .ci/gpu/check.py check --output $(GPU_OUT) --minutes 8 $(GPU_ARGS)

gpu-train:  ## train on an NVIDIA GPU for 9 minutes, weights in small files
	$(PYTHON) .ci/gpu/check.py train --output $(GPU_OUT) --minutes 9 $(GPU_ARGS)

clean:  ## remove the environment and all that was built
	rm -rf $(VENV) build install log out *.egg-info .mypy_cache .ruff_cache .pytest_cache

$(DONE)/system: .ci/system_packages
	.ci/system_packages $(SYSTEM)
	@mkdir -p $(@D)
	@touch $@

$(DONE)/venv: $(DONE)/system
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip 'setuptools>=71,<80'
	@touch $@

$(DONE)/interfaces: $(DONE)/venv $(INTERFACES)
	@echo 'generating vision_msgs and tf2_msgs, about a minute'
	$(PIP) install ./ros_pip/interfaces
	@touch $@

$(DONE)/modules: $(DONE)/venv $(MODULES)
	$(PIP) install ./ros_pip/modules
	@touch $@

$(DONE)/package: $(DONE)/venv $(PACKAGING)
	$(PIP) install --editable '.[ros]'
	@touch $@

$(DONE)/runtime: $(DONE)/package $(DONE)/interfaces $(DONE)/modules
	@touch $@

$(DONE)/develop: $(DONE)/runtime $(PACKAGING)
	@echo 'installing torch and the tools of the tests'
	$(PIP) install '$(TORCH)'
	$(PIP) install --editable '.[ros,train,openvino,test]'
	@touch $@

# beside the other releases, which stay as they are; numpy 1.26 has wheels up to Python 3.12
$(DONE)/noble: .ci/noble.txt | $(DONE)/develop
	rm -rf $(VENV)/noble
	$(PIP) install --no-deps --target $(VENV)/noble --requirement $<
	@touch $@

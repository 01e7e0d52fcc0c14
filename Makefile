# SPDX-License-Identifier: Apache-2.0
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help

GO           ?= go
BINARY       ?= tinylb
VERSION      ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
IMAGE        ?= tinylb:local
CLANG_FORMAT ?= clang-format-19
FUZZTIME     ?= 20s
N            ?= 10000000
# What makes bench-check shorter than bench-report: flags of go test in test/bench.
BENCHCHECK   ?= -benchtime 100ms

# Tests of several packages use the same host: its BPF file system, container
# engine and cores. One package at a time (-p 1) keeps them out of each other's way.
TESTFLAGS    ?= -count=1 -p 1 -timeout 40m

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build the one static binary (needs Go only)
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o $(BINARY) ./cmd/tinylb

.PHONY: demo
demo: build ## real requests through the balancer in namespaces (needs root)
	./$(BINARY) demo

.PHONY: test
test: ## every test; one whose root, tool or kernel is missing is skipped and says so
	$(GO) test $(TESTFLAGS) ./...

.PHONY: test-kernels
test-kernels: ## the data plane's tests under Debian's 6.1 and 6.12 kernels (needs qemu)
	test/kernels/fetch
	$(GO) test $(TESTFLAGS) -v -run '^TestKernels$$' ./test/kernels

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, clang-format, a tidy go.mod
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then printf 'not as gofmt writes it:\n%s\n' "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) mod tidy -diff
	$(CLANG_FORMAT) --dry-run -Werror $(wildcard bpf/*.[ch] bpf/test/*.[ch])

.PHONY: generate
generate: ## compile bpf/ anew (needs clang-19, llvm-19, libbpf-dev)
	$(GO) generate ./...

.PHONY: generate-check
generate-check: generate ## fail if the compiled objects in git are not what bpf/ compiles to
	@changed=$$(git ls-files --modified --others --exclude-standard -- '*_bpfel.go' '*_bpfel.o'); \
	if [ -n "$$changed" ]; then \
		printf 'not what bpf/ compiles to; run make generate and commit these:\n%s\n' "$$changed"; exit 1; \
	fi

.PHONY: image
image: build ## the container image, FROM scratch (needs docker)
	docker build --tag $(IMAGE) .

.PHONY: compose-demo
compose-demo: image ## the tutorial's docker-compose environment, once through (needs docker-compose)
	packaging/compose-demo

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (20s)
	@listed=$$($(GO) test -list '^Fuzz' ./...); echo "$$listed" | \
	awk '/^Fuzz/ { target[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2, target[i]; n = 0 }' | \
	while read -r package target; do \
		echo "$$package $$target"; \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$package"; \
	done

.PHONY: fuzz-long
fuzz-long: ## N (10 million) packets through the data plane and the model of it, never the same ones
	$(GO) test -count=1 -timeout 0 -v -run '^TestDifferential$$' ./test/diff -packets $(N) -seed $$(date +%s)

.PHONY: model-check
model-check: ## have spin prove the flow table's protocol (needs spin, gcc)
	$(GO) test -count=1 -v ./test/protocol

.PHONY: mutants
mutants: ## put bugs into bpf/, one at a time: the differential test finds each (needs clang-19, llvm-19)
	$(GO) test -count=1 -timeout 60m -v -run '^TestMutants' ./test/diff -mutants

.PHONY: bench
bench: ## the Go benchmarks, for benchstat
	$(GO) test -run '^$$' -bench . -benchmem -p 1 -timeout 0 ./...

.PHONY: bench-once
bench-once: ## each benchmark once: none is broken; its figures mean nothing
	$(GO) test -run '^$$' -bench . -benchtime 1x -short -p 1 -timeout 20m ./...

.PHONY: bench-report
bench-report: ## measure, and write docs/performance.md and its charts (needs root)
	$(GO) run ./test/bench/report write -go $(GO)

.PHONY: bench-check
bench-check: ## measure for a shorter time, and fail where a goal is missed (needs root)
	$(GO) run ./test/bench/report check -go $(GO) -- $(BENCHCHECK)

.PHONY: clean
clean: ## remove what build made
	rm -f $(BINARY)

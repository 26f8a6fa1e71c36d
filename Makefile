# Two commands need nothing else: make demo, and make test.

GO ?= go
# Tests of the integration package mostly wait for servers.
PARALLEL ?= 6

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show what there is to make
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Keep a shop table in step with a cache on private servers, and check every entry
	$(GO) run ./cmd/freshet demo

.PHONY: test
test: ## Run all tests against real Postgres and real Redis
	$(GO) test -count=1 -parallel $(PARALLEL) -timeout 25m ./...

.PHONY: test-superuser
test-superuser: ## Run the integration tests with one superuser in place of owner and worker roles
	FRESHET_TEST_SUPERUSER=1 $(GO) test -count=1 -parallel $(PARALLEL) -timeout 25m ./integration

.PHONY: test-faults
test-faults: ## Kill workers at every commit, cut connections at every few bytes: the long form of some tests
	FRESHET_TEST_EXHAUSTIVE=1 FRESHET_TEST_ROUNDS=100 $(GO) test -count=1 -parallel $(PARALLEL) -timeout 80m -run 'Anywhere|DeathAtAny|Zombie|BenchmarksMeasure' ./integration ./integration/bench

.PHONY: race
race: ## Run all tests with the race detector
	$(GO) test -count=1 -race -timeout 20m ./...

# Of make soak. Without a seed one is drawn; it is printed either way.
MINUTES ?= 10
SEED ?=

.PHONY: soak
soak: ## Write and let faults strike for MINUTES (10) by SEED (random), and compare every entry
	$(GO) run ./integration/soak -minutes $(MINUTES) $(if $(SEED),-seed $(SEED))

# Of make bench, such as ONLY=backfill or ARGS="-rounds 9 -json".
ONLY ?=
ARGS ?=

.PHONY: bench
bench: ## Measure beside baselines; ONLY=name,name for some, ARGS=-quick to see that it works
	$(GO) run ./integration/bench $(if $(ONLY),-only $(ONLY)) $(ARGS)

# What freshet version says; without it, what git knows.
VERSION ?=

.PHONY: build
build: ## Build bin/freshet
	CGO_ENABLED=0 $(GO) build -trimpath $(if $(VERSION),-ldflags "-X github.com/freshet/freshet/internal/build.version=$(VERSION)") -o bin/freshet ./cmd/freshet

.PHONY: generate
generate: ## Write the files that are made from others
	$(GO) generate ./...

.PHONY: check
check: ## Vet, and make sure that formatting and generated files are current
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "gofmt differs: run gofmt -w ."; exit 1; }
	$(GO) vet ./...
	$(GO) mod tidy -diff
	@$(GO) run ./cmd/freshet migrate --print | diff -q - sql/install.sql >/dev/null || { echo "sql/install.sql is not current: run make generate"; exit 1; }

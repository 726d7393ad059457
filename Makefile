# Everything that people and CI do. `make` needs Go alone.
GO      ?= go
PREFIX  ?= /usr
DESTDIR ?=
# gRPC's request tracing, unused here, brings templates that keep every method of every type in the program.
GOFLAGS += -trimpath -tags=grpcnotrace
LDFLAGS := -s -w
PLUGINS := $(notdir $(wildcard plugins/*))

# Where the last run of the lab in its guests, and make coverage, leave their results.
RESULTS := $(or $(XDG_CACHE_HOME),/var/cache)/picosnitch-kernels/results

export CGO_ENABLED := 0

.PHONY: chaos build help run test lab-repeat test-kernels test-arm64 coverage fuzz bench generate lint check install deps clean
.DEFAULT_GOAL := build

build: ## build bin/picosnitch and bin/plugins/*
	$(GO) build $(GOFLAGS) -ldflags '$(LDFLAGS)' -o bin/picosnitch ./host
	@for p in $(PLUGINS); do \
		echo "$(GO) build -o bin/plugins/picosnitch-plugin-$$p ./plugins/$$p"; \
		$(GO) build $(GOFLAGS) -ldflags '$(LDFLAGS)' -o bin/plugins/picosnitch-plugin-$$p ./plugins/$$p || exit 1; \
	done

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## build, and monitor in the foreground (needs root)
	bin/picosnitch start-no-daemon

test: deps build ## run all tests; installs what they need, says so, and needs root for the lab
	test/run.sh

lab-repeat: deps build ## run the lab three times in a row
	$(GO) test -count=3 -timeout 30m ./test/lab

test-kernels: build ## run the lab on Debian's 6.1 and 6.12 kernels in QEMU (needs root)
	test/kernels/run.sh all

test-arm64: build ## the same on arm64, where 6.1 runs what kprobes can count (needs root)
	test/kernels/run.sh arm64

coverage: deps build ## run the lab here and in its guests, and write docs/coverage.md (needs root)
	mkdir -p $(RESULTS)
	LAB_RESULTS=$(RESULTS)/host.json $(GO) test -count=1 -timeout 20m ./test/lab
	test/kernels/run.sh all
	$(GO) run ./test/coverage $(RESULTS)/host.json $(RESULTS)/6.1/results.json $(RESULTS)/6.12/results.json

fuzz: ## fuzz every parser (4 minutes)
	test/fuzz.sh

chaos: deps build ## ten minutes of bad luck: all is killed, stopped and filled, and every store compared (needs root)
	CHAOS_MINUTES=10 $(GO) test -count=1 -timeout 40m -v -run 'TestChaos|TestDamagedJournal' ./test/chaos

bench: build ## measure; docs/performance.md explains the figures
	test/bench.sh

generate: ## make the BPF objects and the wire contract's code anew (installs clang-14 and protoc)
	test/deps.sh generate
	$(GO) generate ./...

lint: ## vet, staticcheck, formatting, and that it builds for arm64
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt would change:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	GOARCH=arm64 $(GO) build -o /dev/null ./host ./plugins/...

check: generate ## prove that generated files are fresh
	git diff --exit-code -- '*_bpfel.go' '*_bpfel.o' '*.pb.go' go.mod go.sum

install: build ## install into $(DESTDIR)$(PREFIX)
	install -D -m 0755 bin/picosnitch $(DESTDIR)$(PREFIX)/bin/picosnitch
	install -d -m 0755 $(DESTDIR)$(PREFIX)/libexec/picosnitch/plugins
	install -m 0755 $(PLUGINS:%=bin/plugins/picosnitch-plugin-%) $(DESTDIR)$(PREFIX)/libexec/picosnitch/plugins/
	sed 's|/usr/bin/|$(PREFIX)/bin/|' packaging/picosnitch.service | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/lib/systemd/system/picosnitch.service

deps: ## install what the tests need (Debian packages)
	test/deps.sh test

clean: ## remove what was built
	rm -rf bin

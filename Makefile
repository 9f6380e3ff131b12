# stratumSwitcher. "make help" lists what can be done.

GO      ?= go
PREFIX  ?= /usr/local
DESTDIR ?=

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -X main.version=$(VERSION)

# The program runs on Linux; elsewhere it has to build.
CROSS := darwin windows

.PHONY: help build test unit e2e test-main test-packages test-portable test-fuzz torture lint vulncheck cover bench demo practice package install clean

help:
	@echo "make build    build ./stratumSwitcher"
	@echo "make unit     run the unit tests with the race detector: no root, no network, no Java"
	@echo "make e2e      run the tests of the built daemon and of ZooKeeper (installs what they need)"
	@echo "make test     run all tests: unit, e2e, fuzz targets, the relay for other systems"
	@echo "make torture  run the random tests for long: SEED= MINUTES= (30), both optional"
	@echo "make lint     run gofmt, go vet and linters, look for known vulnerabilities, build for: $(CROSS)"
	@echo "make cover    print how much of the daemon the tests run, the built daemon included"
	@echo "make demo     show a switch, an outage and an upgrade with simulated pools (DEMO='-times 0': until Ctrl-C)"
	@echo "make practice run two simulated pools and three miners for a switcher of your own"
	@echo "make bench    measure the cost, beside HAProxy and nginx (installs them)"
	@echo "make package  build a Debian package in ./build (needs cmake)"
	@echo "make install  install below PREFIX ($(PREFIX)), with DESTDIR in front"
	@echo "make clean    remove what was built"

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o stratumSwitcher .

# Tests mostly wait, so more of them run side by side than there are cores. Tests that
# measure load, memory or time are not parallel: they run first in their package.
TESTS := $(GO) test -race -count=1 -parallel 8 -timeout 14m

# The daemon that e2e tests has the race detector. Its simulated pools and miners, which
# take as much of the processors as the daemon, have it in the unit tests.
E2E := $(GO) test -count=1 -parallel 12 -timeout 14m -tags e2e ./e2e

PACKAGES = $$($(GO) list ./... | sed '1d;/\/e2e$$/d')

# Everything is compiled before anything is run, because many tests have time limits and
# the compiler would take the processors from them ("go list -export" compiles and, unlike
# a test run that does nothing, does not link). Then the tests of package main run; the
# other packages, the relay for other systems and fuzzing use the time that is left.
# Finally, the tests of the built daemon have the machine to themselves.
test:
	./scripts/install-test-tools.sh
	@$(GO) list -export -test -deps -race -tags e2e ./... >/dev/null
	@$(GO) list -export -test -deps -tags e2e ./e2e >/dev/null
	@$(GO) list -export -deps ./... >/dev/null
	@$(GO) list -export -test -deps -tags portable_relay . ./internal/relay >/dev/null
	@$(MAKE) --no-print-directory -j4 --output-sync=target test-main test-packages test-portable test-fuzz
	$(E2E) -args -daemon-race

test-main:
	$(TESTS) -tags e2e .

test-packages:
	nice -n 5 $(TESTS) -tags e2e $(PACKAGES)

# Tests that need more than Go have the build tag e2e.
unit:
	$(GO) test -race -count=1 -p 4 -parallel 16 -timeout 14m ./...
	@echo "unit tests passed; make e2e runs the tests of the built daemon: see e2e/doc.go"

# The tests with the tag that are beside the code; e2e/doc.go says why they are there.
E2E_FILES = $(shell grep -rl --include='*_test.go' --exclude-dir=e2e --exclude-dir=build --exclude-dir=.git '^//go:build.*e2e' .)
E2E_NAMES = $(if $(E2E_FILES),$(shell grep -ho '^func Test[A-Za-z0-9_]*' $(E2E_FILES) | sed 's/^func //' | paste -sd '|' -))

e2e:
	./scripts/install-test-tools.sh
	$(E2E) -args -daemon-race
	$(if $(E2E_NAMES),$(TESTS) -tags e2e -run '^($(E2E_NAMES))$$' $(sort $(dir $(E2E_FILES))))

test-portable:
	nice -n 15 $(GO) test -count=1 -timeout 10m -tags portable_relay -run 'TestRelay|TestSession' . ./internal/relay

test-fuzz:
	nice -n 19 ./scripts/fuzz.sh 1000x

# These run side by side for MINUTES: the random tests (everything fails in turn, with a
# ZooKeeper ensemble; with a coin file; with a ZooKeeper that is restarted), and the
# tests of one kind of fault each. A hundred upgrades follow. SEED determines them all.
SEED    ?= $(shell date +%s)
MINUTES ?= 30
LONG    := $(GO) test -tags e2e -race -count=1 -timeout 0 -v
TORTURE := TestTorture|TestChaos|TestChaosZooKeeper|TestZKFaults|TestCoinFileFaults|TestLogFaults
# These flags set for how many seconds the tests run.
TORTURE_SECONDS := torture chaos zk-fault coin-file log-fault

torture:
	./scripts/install-test-tools.sh
	@echo "make torture SEED=$(SEED) MINUTES=$(MINUTES)"
	$(LONG) -parallel 8 -run '^($(TORTURE))$$' ./e2e -args -seed $(SEED) \
		$(foreach fault,$(TORTURE_SECONDS),-$(fault)-seconds $$(($(MINUTES) * 60)))
	$(LONG) -run '^TestUpgrade' ./e2e -args -seed $(SEED) -upgrades 100
	@echo "make torture SEED=$(SEED) MINUTES=$(MINUTES): all well"

# Some linters have no flag for build tags.
WITH_E2E := GOFLAGS="$(shell $(GO) env GOFLAGS) -tags=e2e"

# The linters are tools of go.mod, which pins their versions.
lint:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then \
		echo "not formatted, run gofmt -w:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags e2e,setclock ./...
	$(GO) tool staticcheck ./...
	$(GO) tool staticcheck -tags e2e ./...
	$(WITH_E2E) $(GO) tool unparam ./...
	$(WITH_E2E) $(GO) tool go-errorlint ./...
	$(GO) tool misspell -error $$(git ls-files '*.go' '*.md' '*.yml' Makefile deploy scripts)
	@set -e; for os in $(CROSS); do \
		echo "build and vet for $$os"; \
		GOOS=$$os CGO_ENABLED=0 $(GO) build -o /dev/null ./...; \
		GOOS=$$os CGO_ENABLED=0 $(GO) vet ./...; \
		GOOS=$$os CGO_ENABLED=0 $(GO) vet -tags e2e ./...; \
	done
	@GO='$(GO)' ./scripts/vulncheck.sh -offline-ok

# Looks for known vulnerabilities in what is linked. It fails if the database cannot be
# reached; as part of "make lint" it only says so.
vulncheck:
	@GO='$(GO)' ./scripts/vulncheck.sh

# Measures unit tests and real daemons together. What a daemon ran before an upgrade is
# not counted, and nothing of a daemon that is killed. COVER_RUN picks tests.
COVER_RUN ?= .
COVER     := $(CURDIR)/build/cover
cover:
	rm -rf $(COVER)
	mkdir -p $(COVER)/unit $(COVER)/daemon
	chmod 777 $(COVER)/daemon
	$(GO) test -tags e2e -count=1 -p 1 -timeout 30m -cover -covermode=atomic -run '$(COVER_RUN)' . ./e2e -args \
		-test.gocoverdir=$(COVER)/unit -daemon-cover $(COVER)/daemon
	$(GO) test -tags e2e -count=1 -timeout 10m -cover -covermode=atomic -run '$(COVER_RUN)' ./internal/coins -args \
		-test.gocoverdir=$(COVER)/unit
	$(GO) tool covdata textfmt -i=$(COVER)/unit,$(COVER)/daemon -o $(COVER)/profile
	$(GO) tool cover -func $(COVER)/profile >$(COVER)/functions.txt
	@tail -n 1 $(COVER)/functions.txt

# BENCH has flags for the bench, such as BENCH=-quick.
bench: build
	./scripts/install-bench-tools.sh
	$(GO) run ./bench $(BENCH)

# Pools and miners for trying out a switcher of your own.
practice:
	@mkdir -p build
	@$(GO) build -o build/practice ./demo/practice
	@exec build/practice

# DEMO has flags for the demo; build/demo -help lists them.
demo:
	@mkdir -p build
	@$(GO) build -o build/demo ./demo
	@exec build/demo $(DEMO)

package:
	cmake -S . -B build
	rm -f build/*.deb
	cmake --build build --target package

# The unit and the other files contain paths below /usr, which are replaced by PREFIX.
install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/stratumSwitcher $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -d $(DESTDIR)$(PREFIX)/share/stratumSwitcher $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 755 stratumSwitcher $(DESTDIR)$(PREFIX)/bin/
	install -m 755 deploy/clean-logs $(DESTDIR)$(PREFIX)/lib/stratumSwitcher/
	install -m 644 config.default.json $(DESTDIR)$(PREFIX)/share/stratumSwitcher/
	for file in stratumSwitcher.service stratumSwitcher-logs.service stratumSwitcher-logs.timer; do \
		sed 's,/usr/\(bin\|lib\)/,$(PREFIX)/\1/,' deploy/$$file >$(DESTDIR)$(PREFIX)/lib/systemd/system/$$file && \
		chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/$$file || exit 1; \
	done
	sed 's,/usr/bin/,$(PREFIX)/bin/,' deploy/supervisor.conf >$(DESTDIR)$(PREFIX)/share/stratumSwitcher/supervisor.conf
	chmod 644 $(DESTDIR)$(PREFIX)/share/stratumSwitcher/supervisor.conf
	sed 's,/usr/share/,$(PREFIX)/share/,' deploy/stratumSwitcher.8 >$(DESTDIR)$(PREFIX)/share/man/man8/stratumSwitcher.8
	chmod 644 $(DESTDIR)$(PREFIX)/share/man/man8/stratumSwitcher.8
	./scripts/operator-docs.sh $(DESTDIR)$(PREFIX)/share/doc/stratumswitcher

clean:
	rm -rf stratumSwitcher build

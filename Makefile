# Everything a developer does, in one place. `make` alone lists it.
# The environment is .venv, made with Python's own tools from hash-pinned lists in requirements/; a step that is done
# leaves a stamp in .venv and is not done again until its inputs change.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := ingest tests
SQL := sql schema/migrations

# Many tests wait for a broker most of the time: on 2 cores 3 processes need half the time of one. A file's tests stay in
# one process, which prepares once what they share, and follow one another: two demos at once would be in each other's way.
JOBS ?= 3
SIDE_BY_SIDE = --numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder

# The first Python that is new enough; `make PYTHON=/path/to/python venv` decides otherwise.
PYTHON ?= $(shell for candidate in python3 python3.13 python3.12 python3.11 python; do \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$candidate" && break; done)

say = @printf '\033[1m==> %s\033[0m\n'

.PHONY: help
help:  ## this list
	@printf 'make TARGET, where TARGET is one of\n\n'
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

.PHONY: demo
demo: $(VENV)/.demo  ## a small shop, live: embedded PostgreSQL and broker, about a minute (DEMO="--keep" leaves them up)
	$(say) 'tallystream demo $(DEMO)'
	@$(BIN)/tallystream demo $(DEMO)

.PHONY: test
test: $(VENV)/.dev  ## every test, against a real PostgreSQL and a real Kafka broker (PYTEST_ARGS="-k name" selects)
	$(say) 'pytest: all tests'
	@$(PYTEST) $(SIDE_BY_SIDE) $(PYTEST_ARGS)

.PHONY: test-quick
test-quick: $(VENV)/.dev  ## the tests that need no broker and no patience
	$(say) 'pytest: quick tests'
	@$(PYTEST) -m 'not slow and not kafka' $(PYTEST_ARGS)

.PHONY: test-postgres-all
test-postgres-all: $(addprefix test-postgres-,15 16 17 18)  ## the database tests on PostgreSQL 15, 16, 17 and 18 (needs Maven)

.PHONY: test-postgres-oldest
test-postgres-oldest: test-postgres-15  ## the database tests on the oldest PostgreSQL that is supported (needs Maven)

test-postgres-%: $(VENV)/.dev
	$(say) 'pytest: the database tests on PostgreSQL $*'
	@TALLYSTREAM_TEST_POSTGRES_VERSION=$* $(PYTEST) $(SIDE_BY_SIDE) -m 'not slow and not kafka' tests/database $(PYTEST_ARGS)

# The SQL contract: what functions, triggers and guards do, and how sessions meet.
CONTRACT := posting reading partitions altering rebuilding high_write edges locking

.PHONY: test-schema
test-schema: $(VENV)/.dev  ## the tests of the SQL contract in a schema that is not called accum
	$(say) 'pytest: the contract in another schema'
	@TALLYSTREAM_TEST_SCHEMA=books $(PYTEST) $(SIDE_BY_SIDE) $(CONTRACT:%=tests/database/test_%.py) $(PYTEST_ARGS)

.PHONY: simulate
simulate: $(VENV)/.dev  ## simulated lives of workers full of mishaps (SEEDS=1000 FIRST=1; SEED=17 tells one in full)
	$(say) 'simulation'
	@$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),1000) --first $(or $(FIRST),1) $(if $(SEED),--seed $(SEED))

.PHONY: go-programs
go-programs: $(VENV)/.dev  ## what tests need of Go: Helm, kubectl-validate, the Compose loader (once: some minutes)
	$(say) 'Helm, kubectl-validate, the Compose loader'
	@$(BIN)/python -m tests.support.go_programs

.PHONY: test-helm
test-helm: $(VENV)/.dev  ## the chart on a real Kubernetes API server, which Go builds first (once: 10 minutes)
	$(say) 'Helm, kube-apiserver, etcd'
	@$(BIN)/python -m tests.support.go_programs cluster
	$(say) 'pytest: install, upgrade, rollback and uninstall'
	@$(PYTEST) tests/deploy/helm_release.py $(PYTEST_ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.dev  ## a fuzzer against the decoder, with atheris (SECONDS=60; INPUT=FILE repeats one input)
	$(say) 'fuzzing the decoder'
	@$(PIP) install --quiet --require-hashes --requirement requirements/fuzz.lock
	@$(BIN)/python -m tests.fuzzing $(or $(INPUT),$(SECONDS),60)

.PHONY: network
network: $(VENV)/.dev  ## a slow, silent and cut network, and leaders that die, at length (needs Go)
	$(say) 'pytest: the network'
	@TALLYSTREAM_TEST_LONG=1 $(PYTEST) tests/acceptance/test_network*.py tests/acceptance/test_kafka_leaders.py $(PYTEST_ARGS)

.PHONY: torture
torture: $(VENV)/.dev  ## real servers and processes, killed and frozen at random (SECONDS=120 SEED=1)
	$(say) 'torture'
	@$(BIN)/python -m tests.torture --seconds $(or $(SECONDS),120) $(if $(SEED),--seed $(SEED))

.PHONY: bench
bench: $(VENV)/.dev  ## figures, not tests (BENCH="stream-hot --factor 0.1 --json FILE" chooses; BENCH=--list names the rows)
	$(say) 'benchmarks $(BENCH)'
	@$(BIN)/python -m tests.benchmarks $(BENCH)

.PHONY: sweep
sweep: $(VENV)/.dev  ## every failpoint with every fault, compared with the oracle (SWEEP="--only worker --fault hang" selects)
	$(say) 'failpoint sweep'
	@mkdir -p build
	@$(BIN)/python -m tests.support.sweep --json build/sweep.json $(SWEEP)

.PHONY: docs
docs: $(VENV)/.dev  ## the documentation as a site, in build/site; a warning is an error
	$(say) 'mkdocs'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@printf '%s\n' 'build/site/index.html'

.PHONY: mutants
mutants: $(VENV)/.dev  ## planted bugs, one after the other: the tests have to catch nearly all (MUTANTS='--only "no epoch"')
	$(say) 'planted bugs'
	@mkdir -p build
	@$(BIN)/python -m tests.support.mutants --json build/mutants.json $(MUTANTS)

.PHONY: check
check: lint types verify  ## lint, types and verify

.PHONY: lint
lint: $(VENV)/.dev  ## style, formatting, import contracts, SQL
	$(say) 'ruff'
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	$(say) 'import contracts'
	@$(BIN)/lint-imports --no-cache
	$(say) 'sqlfluff'
	@$(BIN)/sqlfluff lint --disable-progress-bar $(SQL)

.PHONY: types
types: $(VENV)/.dev  ## mypy, strict
	$(say) 'mypy'
	@$(BIN)/mypy

.PHONY: format
format: $(VENV)/.dev  ## rewrite the sources in the project's style
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

.PHONY: generate
generate: $(VENV)/.dev  ## write the generated files anew
	$(say) 'generated files'
	@$(BIN)/python -m tests.support.generate write

.PHONY: verify
verify: $(VENV)/.dev  ## fail when a generated file is not what `make generate` would write
	$(say) 'generated files are current'
	@$(BIN)/python -m tests.support.generate verify

.PHONY: lock
lock: $(VENV)/.dev  ## pin the newest allowed dependencies, with hashes, for every platform
	@for list in dev demo runtime full build fuzz; do \
		printf '==> requirements/%s.lock\n' "$$list"; \
		case "$$list" in \
			dev) what='pyproject.toml --all-extras --group dev' ;; \
			demo) what='pyproject.toml --extra demo --group build --constraint requirements/dev.lock' ;; \
			runtime) what='pyproject.toml --constraint requirements/dev.lock' ;; \
			full) what='pyproject.toml --extra avro --extra protobuf --extra tracing --constraint requirements/dev.lock' ;; \
			build) what='--group pyproject.toml:build --constraint requirements/dev.lock' ;; \
			fuzz) what='--group pyproject.toml:fuzz' ;; \
		esac; \
		$(BIN)/uv pip compile $$what --upgrade --universal --python-version 3.11 --generate-hashes \
			--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command 'make lock' \
			--quiet --output-file "requirements/$$list.lock"; \
	done

.PHONY: venv
venv: $(VENV)/.dev  ## the environment with every tool, in .venv
	$(say) 'ready: $(BIN)/tallystream --help'

.PHONY: clean
clean:  ## remove the environment, caches and builds; .cache (downloads) stays
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ------------------------------------------------------------------------------------------------------- the environment

$(VENV)/.made:
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer is needed, and none was found; PYTHON=/path/to/python says where one is' >&2; exit 1; }
	$(say) "creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV) || { echo 'the module venv is missing (Debian, Ubuntu: apt install python3-venv)' >&2; exit 1; }
	@touch $@

# The demo needs no developer's tools, and so installs in a fraction of the time.
$(VENV)/.demo: $(VENV)/.made requirements/demo.lock pyproject.toml
	$(say) 'installing what the program needs (requirements/demo.lock)'
	@$(PIP) install --quiet --require-hashes --requirement requirements/demo.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.made requirements/dev.lock pyproject.toml
	$(say) "installing the program and its developers' tools (requirements/dev.lock)"
	@$(PIP) install --quiet --require-hashes --requirement requirements/dev.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.demo

# Two commands matter: `make demo` and `make test`. Both install what is missing and start the servers they need.

SINK ?= files
MAJORS ?= 14 16 17 18
.DEFAULT_GOAL := help
.PHONY: help demo test test-matrix bench build lint clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\): ##\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## the shop, live, from PostgreSQL to topics; SINK=kafka does the same through Kafka and a schema registry
	SINK=$(SINK) scripts/demo.sh

test: ## format, lints, unit tests, and the suite against real PostgreSQL, Kafka and registry
	scripts/setup.sh build pg pg17 python kafka registry
	$(MAKE) --no-print-directory lint
	cargo test --locked

test-matrix: ## the tests that depend on the server, on other majors of PostgreSQL; MAJORS="14 16 17 18"
	scripts/setup.sh build pg python
	scripts/matrix.sh $(MAJORS)

bench: ## measure throughput, CPU, memory and latency beside pg_recvlogical and Debezium; BENCH_QUICK=1 takes three minutes
	scripts/setup.sh build pg kafka debezium
	cargo bench --locked --bench projection --bench capture --bench drain

build: ## the release binary, target/release/gimbal
	scripts/setup.sh build
	cargo build --release --locked

lint: ## formatting and clippy, nothing else
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

clean: ## remove what was built and what the set-up downloaded here
	cargo clean
	rm -rf .lab

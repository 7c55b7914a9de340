# Each command sets up everything it needs on a fresh machine; see .ci/setup.
.PHONY: run test check conformance kernels test-drivers test-oracles devices bench clean
.DEFAULT_GOAL := help

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 22

run: ## train and analyse a small transformer on the CPU and through Vulkan; ARGS="--help" teaches
	@.ci/setup
	@.venv/bin/qga run $(ARGS)

test: ## checks and the whole test suite; ARGS go to pytest
	@.ci/setup
	@.ci/run test $(ARGS)

check: ## format, lint, types, architecture
	@.ci/setup
	@.ci/run check $(ARGS)

conformance: ## every primitive harness of jax on Vulkan against the CPU; ARGS="--help" teaches
	@.ci/setup
	@.ci/run conformance $(ARGS)

kernels: ## every public Pallas kernel of jax on Vulkan against its formula; ARGS="--help" teaches
	@.ci/setup
	@.ci/run kernels $(ARGS)

test-drivers: ## compiler, runtime and kernels on a newer software driver, at three subgroup sizes; ARGS go to pytest
	@.ci/setup
	@.ci/run drivers $(ARGS)

test-oracles: ## the mathematics against heavy libraries, in an environment of their own; ARGS go to pytest
	@.ci/setup
	@.ci/run oracles $(ARGS)

devices: ## which Vulkan devices are here, what is missing and the fix
	@.ci/setup
	@.venv/bin/qga devices $(ARGS)

bench: ## build, check and time everything on the Vulkan device, beside JAX; ARGS="--help" teaches
	@.ci/setup
	@.venv/bin/python -m tests.bench $(ARGS)

clean: ## remove the virtual environment, build outputs and caches
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis lowering/pjrt/_native.abi3.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

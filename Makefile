# The developers' whole interface; `make` alone lists it.
.DEFAULT_GOAL := help
PY := .venv/bin/python
DEMO ?=
CHAOS ?=

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## .venv with everything that tests and development need
	@.ci/setup-venv requirements-dev.txt

demo:  ## the whole product on this machine: prints READY and an address (DEMO="--port 9443" for options)
	@.ci/setup-venv requirements-local.txt
	@exec .venv/bin/whisperctl local $(DEMO)

# What is timed has the machine for itself; the rest runs in two workers, the hosts with systemd in one of them.
TIMED := tests/app tests/bootstrap tests/browser
REST := tests/hosts tests/deployment tests/package tests/chaos tests/contract tests/session tests/unit

test: setup  ## every test that this machine can run; says what the others need
	$(PY) -m pytest $(TIMED)
	$(PY) -m pytest -n 2 --dist loadgroup $(REST)
	@$(PY) -m tests.javascript

test-hosts: setup  ## all tests on hosts with systemd, faults too (root; a root tree is made the first time)
	@.ci/hosts
	$(PY) -m pytest tests/hosts -m "endurance or not endurance"

lint: setup  ## ruff, mypy --strict, shellcheck where it is installed
	.venv/bin/ruff check .
	.venv/bin/mypy
	@.ci/shell-lint

check: lint test  ## what CI runs

chaos: setup  ## 10,000 random histories with faults, and the whole small world (CHAOS="--histories N --seed N --jobs N")
	$(PY) -m tests.chaos $(CHAOS)
	CHAOS_WHOLE=1 $(PY) -m pytest tests/chaos -s --timeout 0

defects: setup  ## stock WhisperLive's defects, looked for in stock and in ours: writes docs/defects.md (4 minutes)
	$(PY) -m bench.defects --write docs/defects.md

calm: setup  ## 1,000 simulated hours of probes with everything well: no false alarm (PROBE_HOURS=N; 6 minutes)
	PROBE_HOURS=$${PROBE_HOURS:-1000} $(PY) -m pytest tests/chaos/test_calm.py -s --timeout 0

probes: setup  ## each layer broken on the embedded cloud: writes the table of docs/probes.md (4 minutes)
	PROBES_TABLE=write $(PY) -m pytest -m "endurance or not endurance" tests/app/test_stack_probes.py

endurance: setup  ## the long ones: offline for minutes, frozen and slow networks, the real chain under faults
	$(PY) -m pytest -m endurance --timeout 1500

poison: setup  ## 2,000 connections that mean harm against one launcher (POISON=N for another number; 10 minutes)
	POISON=$${POISON:-2000} $(PY) -m pytest tests/bootstrap/test_poison.py -s

try-whisperlive: setup  ## VERSION=0.10.0: seams, launcher suite and defects with another WhisperLive; exit 0 if safe
	@$(PY) -m bench.try_whisperlive $(or $(VERSION),$(error name a version: make try-whisperlive VERSION=0.10.0))

audit: setup  ## checkov on the packaged template, in an environment of its own under build/ (half a minute)
	@.ci/checkov
	$(PY) -m tests.package.audit

cold-start: setup  ## what a cold start of the packaged Lambda costs, in processor time
	$(PY) -m tests.package.cold_start

package: setup  ## the Lambdas' archive and the stack's template into build/aws
	$(PY) -m whisperctl.packaging build/aws

screenshots: setup  ## pictures of the page into docs/img
	$(PY) -m tests.browser.screenshots

terminal: setup  ## docs/whisperctl.md anew: every command run in a terminal on a running stack (needs tmux; 3 minutes)
	$(PY) -m tests.terminal

speech: setup  ## the clips under whisperctl/speech and tests/speech anew (needs espeak-ng)
	$(PY) -m bench.speech

locks: setup  ## every lock anew, after a change of a requirements.in or of pyproject.toml
	.ci/locks

clean:  ## removes what the targets above made, .venv included
	rm -rf .venv .local build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis whisperlive_edge.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup demo test test-hosts lint check chaos calm defects endurance poison try-whisperlive audit cold-start package screenshots speech locks clean terminal

PYTHON ?= python3
BIN = .venv/bin

.PHONY: run doctor docs test test-clients test-sdk lint bench soak screenshots

run: .venv/run
	@$(BIN)/python app.py

doctor: .venv/run
	@$(BIN)/python -m cursor2api.doctor $(ARGS)

docs: .venv/run
	@$(BIN)/python -m docs.tables

test: .venv/test
	@$(BIN)/python -m pytest -n 6 --dist worksteal

test-clients: .venv/clients tests/clients/node_modules
	@$(BIN)/python -m pytest tests/clients

test-sdk: .venv-sdk/done
	@.venv-sdk/bin/python -m pytest tests/sdk

ROUNDS ?= 3

bench: .venv/test .venv-litellm/done
	@$(BIN)/python bench/run.py --rounds $(ROUNDS) --only "$(ONLY)"

DURATION ?= 600

soak: .venv/test
	@$(BIN)/python tests/soak.py --seconds $(DURATION) $(ARGS)

# The Chinese one needs a Chinese font, as of Debian's fonts-wqy-microhei.
screenshots: .venv/test
	@SCREENSHOTS=docs $(BIN)/python -m pytest tests/test_page.py -k pictures

lint: .venv/test
	@$(BIN)/flake8 .

.venv/run: requirements.txt constraints.txt
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -r requirements.txt
	@touch $@

.venv/test: .venv/run requirements-test.txt
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -r requirements-test.txt
	@touch $@

.venv/clients: .venv/test requirements-clients.txt
	@$(BIN)/pip install -q --disable-pip-version-check -r requirements-clients.txt
	@touch $@

.venv-sdk/done: requirements.txt requirements-test.txt requirements-sdk.txt requirements-sdk-test.txt constraints.txt
	@test -x .venv-sdk/bin/pip || $(PYTHON) -m venv .venv-sdk
	@.venv-sdk/bin/pip install -q --disable-pip-version-check -c constraints.txt -r requirements-sdk-test.txt
	@touch $@

.venv-litellm/done:
	@test -x .venv-litellm/bin/pip || $(PYTHON) -m venv .venv-litellm
	@if .venv-litellm/bin/pip install -q --disable-pip-version-check 'litellm[proxy]==1.108.7'; then touch $@; \
	else echo "bench: LiteLLM could not be installed into .venv-litellm: it is not measured"; fi

tests/clients/node_modules: tests/clients/package.json
	@cd tests/clients && npm install --silent --no-audit --no-fund --no-package-lock
	@touch $@

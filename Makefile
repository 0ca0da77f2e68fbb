PYTHON ?= python3
BIN = .venv/bin

.PHONY: run client doctor test test-clients test-sdk lint bench soak screenshots

run: .venv/run
	@$(BIN)/python app.py

client: .venv/run
	@$(BIN)/python -m cursor2api.clients $(NAME) $(ARGS)

doctor: .venv/run
	@$(BIN)/python -m cursor2api.doctor $(ARGS)

test: .venv/test
	@$(BIN)/python -m pytest -n 6 --dist worksteal

test-clients: .venv/clients .venv-aider/done tests/clients/node_modules
	@$(BIN)/python -m pytest tests/clients

test-sdk: .venv-sdk/done
	@.venv-sdk/bin/python -m pytest tests/sdk

ROUNDS ?= 3

bench: .venv/test .venv-litellm/done
	@$(BIN)/python bench/run.py --rounds $(ROUNDS) --only "$(ONLY)"

DURATION ?= 600

soak: .venv/test
	@$(BIN)/python tests/soak.py --seconds $(DURATION) $(ARGS)

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

# It pins all that it needs, and needs Python 3.12 or older.
.venv-aider/done:
	@if $(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then \
	$(PYTHON) -m venv .venv-aider && .venv-aider/bin/pip install -q --disable-pip-version-check 'aider-chat>=0.86' && touch $@; \
	else echo "test-clients: aider needs Python 3.12 or older: its test is skipped"; fi

tests/clients/node_modules: tests/clients/package.json
	@cd tests/clients && npm install --silent --no-audit --no-fund --no-package-lock
	@touch $@

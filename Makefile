PYTHON ?= python3
BIN = .venv/bin

.PHONY: run client doctor docs test test-pythons test-clients test-sdk lint bench soak screenshots FORCE

run: .venv/run
	@$(BIN)/python app.py

client: .venv/run
	@$(BIN)/python -m cursor2api.clients $(NAME) $(ARGS)

doctor: .venv/run
	@$(BIN)/python -m cursor2api.doctor $(ARGS)

docs: .venv/run
	@$(BIN)/python -m docs.tables

# Without compiled files each start of the service takes twice as long.
test: .venv/test
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 6 --dist worksteal

test-pythons: .venv/pythons
	@$(BIN)/python -m pytest -n 2 --dist worksteal tests/pythons

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

# The Chinese one needs a Chinese font, as of Debian's fonts-wqy-microhei.
screenshots: .venv/test
	@SCREENSHOTS=docs $(BIN)/python -m pytest tests/test_page.py -k pictures

lint: .venv/test
	@$(BIN)/flake8 .

# An environment stays if it works and, where PYTHON was said, is of that Python; else it is made anew.
# Importing cursor2api is what refuses a Python that is too old.
SAID = $(filter command environment,$(firstword $(origin PYTHON)))
VERSION = -c 'import sys; print(sys.version)'

%/made: FORCE
	@if $*/bin/python -c 'import pip, cursor2api' 2>/dev/null $(if $(SAID),&& \
	        [ "$$($*/bin/python $(VERSION))" = "$$($(PYTHON) $(VERSION))" ]); then \
	    test -e $@ || touch $@; \
	elif ! command -v $(PYTHON) >/dev/null; then \
	    echo "$(PYTHON) is not there: make run PYTHON=python3.12, for example"; exit 1; \
	elif $(PYTHON) -c 'import cursor2api'; then \
	    if [ -e $* ]; then echo "$* is broken, or another Python's: it is made anew"; fi; \
	    $(PYTHON) -m venv --clear $* && touch $@; \
	else exit 1; fi

# Installs into the environment $(1) what the file $(2) lists.
define install
	@echo "Installing what $(2) lists into $(1) ..."
	@if $(1)/bin/python -m pip install -q --disable-pip-version-check -r $(2) 2>$(1)/pip.log; then touch $@; \
	elif grep -q 'connection broken' $(1)/pip.log; then \
	    echo "No network: pip cannot reach its package index, and says why in $(1)/pip.log"; exit 1; \
	else cat $(1)/pip.log; exit 1; fi
endef

.venv/run: .venv/made requirements.txt
	$(call install,.venv,requirements.txt)

.venv/test: .venv/run requirements-test.txt
	$(call install,.venv,requirements-test.txt)

.venv/pythons: .venv/test requirements-pythons.txt
	$(call install,.venv,requirements-pythons.txt)

.venv/clients: .venv/test requirements-clients.txt
	$(call install,.venv,requirements-clients.txt)

.venv-sdk/done: .venv-sdk/made requirements.txt requirements-test.txt requirements-sdk.txt requirements-sdk-test.txt
	$(call install,.venv-sdk,requirements-sdk-test.txt)

# It pins all that it needs, so it has an environment of its own.
.venv-aider/done: .venv-aider/made
	@if .venv-aider/bin/pip install -q --disable-pip-version-check 'aider-chat>=0.86'; then touch $@; \
	else echo "test-clients: aider could not be installed into .venv-aider: its test is skipped"; fi

.venv-litellm/done: .venv-litellm/made
	@if .venv-litellm/bin/pip install -q --disable-pip-version-check 'litellm[proxy]==1.108.7'; then touch $@; \
	else echo "bench: LiteLLM could not be installed into .venv-litellm: it is not measured"; fi

tests/clients/node_modules: tests/clients/package.json
	@cd tests/clients && npm install --silent --no-audit --no-fund --no-package-lock
	@touch $@

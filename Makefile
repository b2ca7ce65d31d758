# Shorthand for people who type `make`; run.py is the real entrance.
.PHONY: demo test check
demo test check:
	python3 run.py $@

"""The paper's experiments on generated or real images: `python -m examples.paper`, or ./examples/paper/run."""

"""The paper's experiments on generated or real images: `python -m forge.bench`, or ./examples/paper/run."""

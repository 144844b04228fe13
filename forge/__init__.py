"""git forge: build one model out of many contributors' adapters, with plain git."""

__version__ = "0.1.0"

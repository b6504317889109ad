"""Shared by all functions on Lambda: their queue and messages, its log and metrics. Imports no Polars."""

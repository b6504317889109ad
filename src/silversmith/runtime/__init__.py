"""What every function has on Lambda: its queue and messages, its log and metrics. Imports no Polars."""

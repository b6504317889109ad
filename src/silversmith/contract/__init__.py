"""Demands on the rows of a file: columns, types, rules. Splits them into good rows and rejected ones.

>>> contract = Contract({"flight": pl.Int64, "day": pl.Date}, required=["flight"], ranges={"flight": (1, 9999)})
>>> good, rejected = contract.split(frame)
"""

from silversmith.contract.contract import Checked, Contract, DataType
from silversmith.contract.rejected import REASONS, ROW_NUMBER, TEXT

__all__ = ["REASONS", "ROW_NUMBER", "TEXT", "Checked", "Contract", "DataType"]

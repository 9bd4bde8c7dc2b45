"""Judging SQL by running it: the comparison, the translations, and a red team against the sandbox."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import sql
from tests.unit import sql_attacks

REPOSITORY = Path(__file__).resolve().parents[2]
TABLE = "CREATE TABLE t (a INTEGER, b TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y');"
EVERYTHING = "SELECT * FROM t, sqlite_master"
LIMITS = sql.Limits(seconds=2, rows=1000, megabytes=32)

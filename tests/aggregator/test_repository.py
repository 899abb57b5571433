"""The signed repository: what is on disk after each step, and after a crash at each step."""

from __future__ import annotations

import errno
import gzip
import json
import os
import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp

from aggregator import signed_metadata
from aggregator.repository import (
    ReleaseRepositoryError,
    Repository,
    RepositoryMissingError,
)
from aggregator.signed_metadata import LIFETIME, WRITE, FileWriter
from client_sdk.testing import sample_catalogue
from client_sdk.wire import (
    CARD_FILE,
    CATALOGUE_FILE,
    DEFAULT_POLICY,
    GRAPH_FILE,
    MANIFEST_TARGET,
    POLICY_FILE,
    TABLE_FILE,
    ReleaseManifest,
    sha256_hex,
)

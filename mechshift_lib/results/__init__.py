"""Results are immutable: stored once under the hash of what they depend on, with provenance."""

from mechshift_lib.results import kept
from mechshift_lib.results.provenance import code_hash, data_hash, model_hash, provenance
from mechshift_lib.results.store import Store

__all__ = ["Store", "code_hash", "data_hash", "kept", "model_hash", "provenance"]

"""Many cases: scheduled over workers, in shards, resumable."""

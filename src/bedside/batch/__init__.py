"""From paths to result folders: one case whole, or many by workers, in shards, taken up again."""

"""Many devices: collectives, shardings, `shard_map`."""

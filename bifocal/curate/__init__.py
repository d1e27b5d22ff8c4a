"""Curation: pairs packed into shards, looked over for faults, and summed up."""

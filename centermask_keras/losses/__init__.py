"""Losses on logits, float32 whatever the policy, finite for images without objects."""

"""Training on several machines. Tested with processes of one machine."""

"""Training: one loop for a task's network, for fine-tuning after pruning, and for distillation."""

"""Training: one loop for a task's network, for fine-tuning what was pruned, and for learning from a teacher."""
